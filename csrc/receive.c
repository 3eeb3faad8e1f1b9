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

int ts_receiver_take(struct ts_receiver *receiver, int fd, unsigned most,
                     struct ts_record *rows)
{
    int n;

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
