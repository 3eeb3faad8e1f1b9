/* Many datagrams a system call, each record's struct straight into its row. */
#include "receive.h"

#include <errno.h>
#include <string.h>

void ts_receiver_prepare(struct ts_receiver *receiver)
{
    for (unsigned i = 0; i < TS_SLOTS; i++)
        receiver->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &receiver->sources[i],
            .msg_namelen = sizeof(receiver->sources[i]),
        };
    ts_receiver_cut(receiver, NULL);
}

void ts_receiver_cut(struct ts_receiver *receiver, const struct ts_shape *shape)
{
    receiver->shape = shape;
    for (unsigned i = 0; i < TS_SLOTS; i++) {
        struct iovec *parts = receiver->parts[i];
        struct msghdr *message = &receiver->messages[i].msg_hdr;

        if (shape)
            parts[TS_PART_ROW].iov_len = shape->head_size + shape->size;
        parts[TS_PART_REST] = (struct iovec){receiver->slots[i], TS_SLOT};
        message->msg_iov = shape ? parts : &parts[TS_PART_REST];
        message->msg_iovlen = shape ? TS_PARTS : 1;
    }
}

/* One datagram that comes whole: recvmmsg is a tenth of a query slower. */
static int take_one(struct ts_receiver *receiver, int fd)
{
    struct mmsghdr *message = &receiver->messages[0];
    struct sockaddr *source = (struct sockaddr *)&receiver->sources[0];
    socklen_t source_size = sizeof(receiver->sources[0]);
    ssize_t n;

    do
        n = recvfrom(fd, receiver->slots[0], TS_SLOT, MSG_DONTWAIT | MSG_TRUNC, source,
                     &source_size);
    while (n < 0 && (errno == EINTR || errno == ENOBUFS));
    if (n < 0)
        return -errno;
    message->msg_len = n > (ssize_t)TS_SLOT ? TS_SLOT : (unsigned)n;
    message->msg_hdr.msg_flags = n > (ssize_t)TS_SLOT ? MSG_TRUNC : 0;
    return 1;
}

int ts_receiver_take(struct ts_receiver *receiver, int fd, unsigned most,
                     struct ts_record *rows)
{
    int n;

    if (most == 1 && !receiver->shape)
        return take_one(receiver, fd);
    if (most > TS_SLOTS)
        most = TS_SLOTS;
    receiver->rows = rows;
    if (receiver->shape)
        for (unsigned i = 0; i < most; i++)
            receiver->parts[i][TS_PART_ROW].iov_base =
                (uint8_t *)&rows[i].stats - receiver->shape->head_size;
    do
        n = recvmmsg(fd, receiver->messages, most, MSG_DONTWAIT, NULL);
    while (n < 0 && (errno == EINTR || errno == ENOBUFS));
    return n < 0 ? -errno : n;
}

enum ts_reason ts_receiver_datagram(const struct ts_receiver *receiver, unsigned i,
                                    uint32_t port, struct ts_datagram *datagram)
{
    datagram->size = receiver->messages[i].msg_len;
    datagram->row = receiver->shape ? &receiver->rows[i] : NULL;
    datagram->rest = receiver->slots[i];
    if (receiver->sources[i].nl_pid != port)
        return TS_FOREIGN;
    return receiver->messages[i].msg_hdr.msg_flags & MSG_TRUNC ? TS_TRUNCATED : TS_ACCEPTED;
}

const uint8_t *ts_receiver_whole(struct ts_receiver *receiver,
                                 const struct ts_datagram *datagram)
{
    const uint8_t *head;
    size_t cut;

    if (!datagram->row)
        return datagram->rest;
    head = ts_datagram_head(datagram, receiver->shape);
    cut = receiver->shape->head_size + receiver->shape->size;
    if (cut > datagram->size)
        cut = datagram->size;
    memcpy(receiver->whole, head, cut);
    memcpy(receiver->whole + cut, datagram->rest, datagram->size - cut);
    return receiver->whole;
}
