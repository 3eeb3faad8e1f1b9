/* A library to preload. It makes processes exit right before and right after a listener's request
 * to register or deregister a CPU, so that a test decides what happens in that moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    int attribute; /* 3 REGISTER, 4 DEREGISTER; 0 none */
    int skip;      /* so many of these requests first */
    int before;
    int after;
} plan;

/* From now on: the request of this attribute after `skip` others, once. */
void around(int attribute, int skip, int before, int after)
{
    plan.attribute = attribute;
    plan.skip = skip;
    plan.before = before;
    plan.after = after;
}

/* Whether that request has yet to come. */
int is_pending(void)
{
    return plan.attribute != 0;
}

/* The records have been sent when this returns. */
static void make_exits(int n)
{
    while (n-- > 0) {
        pid_t child = vfork();

        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
}

/* A listener asks for no ACK when it registers or deregisters; all other requests do. */
static int is_planned(const void *message, size_t size)
{
    struct nlmsghdr header;
    struct nlattr attribute;

    if (plan.attribute == 0 || size < NLMSG_HDRLEN + GENL_HDRLEN + sizeof(attribute))
        return 0;
    memcpy(&header, message, sizeof(header));
    memcpy(&attribute, (const uint8_t *)message + NLMSG_HDRLEN + GENL_HDRLEN, sizeof(attribute));
    if (header.nlmsg_flags & NLM_F_ACK || attribute.nla_type != plan.attribute)
        return 0;
    return plan.skip-- == 0;
}

ssize_t send(int fd, const void *message, size_t size, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int) =
        (ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    ssize_t sent;

    if (!is_planned(message, size))
        return real(fd, message, size, flags);
    plan.attribute = 0;
    make_exits(plan.before);
    sent = real(fd, message, size, flags);
    make_exits(plan.after);
    return sent;
}
