/* The numbers of one CPU's exit records: where records are missing. And the kernel's
 * counters, which wrap like them. Pure.
 *
 * The kernel takes a number and queues the record in two steps. Between them
 * another exit of that CPU may overtake, and the task may migrate: then the
 * record has a number of one CPU and stands in the queue of another. */
#include "sequence.h"

/* Records overtake each other by a few. What is further ahead, with no drops to
 * account for it, is taken for another CPU's until the next record follows it. */
#define MOST_OVERTAKEN 64u

#define HALF (UINT32_C(1) << 31) /* numbers wrap: from here on they are behind */

void ts_counter_start(struct ts_counter *counter, uint32_t now)
{
    *counter = (struct ts_counter){.last = now};
}

uint32_t ts_counter_follow(struct ts_counter *counter, uint32_t now)
{
    uint32_t more = now - counter->last;

    counter->last = now;
    counter->total += more;
    return more;
}

int ts_sequence_expects(const struct ts_sequence *sequence, uint32_t seq)
{
    return !sequence->started || (seq == sequence->next && !sequence->jumped);
}

/* Takes [next, seq) for missing, and `seq` for here. */
static uint32_t advance(struct ts_sequence *sequence, uint32_t seq, uint64_t lost)
{
    uint32_t gap = seq - sequence->next;
    uint64_t unplaced = lost - sequence->placed;
    uint32_t before = gap < unplaced ? gap : (uint32_t)unplaced;

    sequence->placed += before;
    sequence->missing += gap;
    sequence->next = seq + 1;
    sequence->jumped = 0;
    return before;
}

uint32_t ts_sequence_follow(struct ts_sequence *sequence, uint32_t seq, uint64_t lost)
{
    uint32_t ahead;

    if (!sequence->started) {
        sequence->started = 1;
        sequence->next = seq;
    }
    if (sequence->jumped && seq - sequence->after_jump <= MOST_OVERTAKEN) {
        uint32_t before = advance(sequence, sequence->after_jump - 1, lost);
        return before + advance(sequence, seq, lost);
    }
    ahead = seq - sequence->next;
    if (ahead >= HALF) { /* late: it was counted as missing */
        if (sequence->missing)
            sequence->missing--;
        return 0;
    }
    if (ahead > MOST_OVERTAKEN && ahead > lost - sequence->placed) {
        sequence->jumped = 1;
        sequence->after_jump = seq + 1;
        return 0;
    }
    return advance(sequence, seq, lost);
}

/* A hole that was taken for a loss may have filled up late, and then the loss is in
 * another: only the sums can be compared. */
uint64_t ts_sequence_unexplained(const struct ts_sequence *sequence)
{
    return sequence->missing > sequence->placed ? sequence->missing - sequence->placed : 0;
}
