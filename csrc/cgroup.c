/* A cgroup's tasks by state, from the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "abi.h"
#include "socket.h"

#define CGROUP2_MAGIC 0x63677270 /* statfs(2) of a cgroup v2 */

static int read_counts(const struct nl_message *reply, struct ts_cgroup *counts)
{
    const uint8_t *at = reply->attrs;
    size_t left = reply->size;
    struct nl_attribute attribute;

    while (reply->command == TS_CMD_CGROUP_NEW &&
           nl_attribute_next(&at, &left, &attribute) == 1)
        if (attribute.type == TS_CGROUP_TYPE_STATS && attribute.size >= sizeof(*counts)) {
            memcpy(counts, attribute.value, sizeof(*counts));
            return 0;
        }
    return -EBADMSG;
}

static int request_counts(int fd, uint16_t family, const struct ts_endpoint *endpoint,
                          uint32_t cgroup_fd, struct ts_cgroup *counts)
{
    struct nl_request request = {
        .family = family,
        .command = TS_CMD_CGROUP_GET,
        .attribute = TS_CGROUP_ATTR_FD,
        .value = &cgroup_fd,
        .size = sizeof(cgroup_fd),
    };
    uint8_t slot[TS_REPLY_SIZE];
    struct nl_message reply;
    int rc = ts_socket_request(fd, endpoint, &request, slot, &reply);

    if (rc < 0)
        return rc;
    /* An ACK alone is the kernel's way to say that there is no such file. */
    return reply.attrs ? read_counts(&reply, counts) : -EBADF;
}

int ts_cgroup(const struct ts_endpoint *endpoint, int fd, struct ts_cgroup *counts,
              struct ts_opened *opened)
{
    struct statfs where;
    int s;
    int rc;

    memset(opened, 0, sizeof(*opened));
    if (fcntl(fd, F_GETFD) < 0) /* before our own socket can take a closed number */
        return -EBADF;
    s = ts_socket_open(endpoint, 64 << 10, opened);
    if (s < 0)
        return s;
    rc = ts_socket_family(s, endpoint, opened);
    if (rc == 0) {
        opened->step = TS_STEP_REQUEST;
        rc = request_counts(s, (uint16_t)opened->family, endpoint, (uint32_t)fd, counts);
    }
    close(s);
    if (rc == -EINVAL && fstatfs(fd, &where) == 0 && where.f_type == CGROUP2_MAGIC)
        return -EMEDIUMTYPE;
    return rc;
}
