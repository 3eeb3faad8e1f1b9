/* A socket's filter: what the kernel keeps out of its queue. */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>

_Static_assert(sizeof(struct ts_instruction) == sizeof(struct sock_filter), "passed as one");
_Static_assert(offsetof(struct ts_instruction, k) == offsetof(struct sock_filter, k),
               "laid out as one");

int ts_filter_attach(int fd, const struct ts_instruction *program, uint32_t n)
{
    struct sock_fprog attached = {.len = (unsigned short)n, .filter = (void *)program};

    if (n > BPF_MAXINSNS)
        return -EINVAL;
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &attached, sizeof(attached)) < 0
               ? -errno
               : 0;
}

void ts_filter_shut(int fd)
{
    static const struct ts_instruction nothing = {.code = BPF_RET | BPF_K};

    ts_filter_attach(fd, &nothing, 1);
}
