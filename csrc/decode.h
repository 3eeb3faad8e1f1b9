/* Datagram -> records. Pure. The public half is ts_decode. */
#ifndef TASKSTATS_DECODE_H
#define TASKSTATS_DECODE_H

#include "netlink.h"

#define TS_NO_CPU 0xffffu
#define TS_NO_ROW 0xffffffffu

/* Appends the records of one TASKSTATS_CMD_NEW message, or nothing. Returns how
 * many, or -EBADMSG with sink->reason. */
int ts_decode_message(const struct nl_message *message, struct ts_sink *sink);

/* ---- records that are received straight into their rows ---- */

/* Bytes before the first struct at most: 36, or 40 with padding. */
#define TS_HEAD offsetof(struct ts_record, stats)

/* What the exit records of one kernel have in common: all that comes before the
 * task's struct but length, number and id, and how the struct is laid out. */
struct ts_shape {
    uint32_t head_size;
    uint32_t size; /* of the struct */
    uint16_t version;
    uint8_t head[TS_HEAD];
};

/* Takes the shape of a datagram that could be decoded. Returns 1, or 0 if it does not
 * begin with a task, or its struct is not laid out as in a row: then its like have to
 * be received whole. */
int ts_shape_learn(struct ts_shape *shape, const uint8_t *datagram, size_t size);

/* A datagram that was cut by a shape: up to the struct's end, and the rest. */
struct ts_datagram {
    struct ts_record *row; /* its struct is there, and right before it what came before it;
                              NULL: not cut, all in `rest` */
    const uint8_t *rest;
    size_t size; /* of both */
};

/* Where it begins, in its row. */
const uint8_t *ts_datagram_head(const struct ts_datagram *datagram,
                                const struct ts_shape *shape);

/* Makes the next row of the sink's from what was received into this one, the same or
 * one after it. Returns the records appended, or 0 if the datagram is of another
 * shape: then it is to be decoded whole. */
int ts_decode_cut(const struct ts_shape *shape, const struct ts_datagram *datagram,
                  struct ts_sink *sink);

#endif
