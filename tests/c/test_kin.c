/* kin.c: processes of one pid, ranges of starts, lines, growth. */
#include "kin.h"

#include <stdio.h>

#include "check.h"

static struct ts_kinship kin;

/* In one bucket: pids that differ by a multiple of its size. */
static void check_one_pid(void)
{
    uint32_t old, young, middle, other;

    CHECK(ts_kinship_open(&kin, 100) == 0);
    old = ts_kinship_add(&kin, 7, 100, 100);
    other = ts_kinship_add(&kin, 7 + 1024, 150, 150);
    young = ts_kinship_add(&kin, 7, 300, 300);
    CHECK(kin.all[old].line == TS_REPLACED && kin.all[young].line == TS_LIVING);
    middle = ts_kinship_add(&kin, 7, 200, 200); /* heard of late */
    CHECK(kin.all[middle].line == TS_REPLACED && kin.all[young].line == TS_LIVING);
    CHECK(kin.all[other].line == TS_LIVING);
    CHECK(ts_kinship_first(&kin, 7) == young && ts_kinship_next(&kin, young) == middle);
    CHECK(ts_kinship_next(&kin, middle) == old && ts_kinship_next(&kin, old) == 0);
    CHECK(ts_kinship_find(&kin, 7, 200) == middle && ts_kinship_find(&kin, 7, 201) == 0);
    CHECK(ts_kinship_find(&kin, 7 + 1024, 150) == other);
    CHECK(ts_kinship_find(&kin, 7 + 2048, 150) == 0);
    CHECK(ts_kinship_at(&kin, 7, 99) == 0 && ts_kinship_at(&kin, 7, 100) == old);
    CHECK(ts_kinship_at(&kin, 7, 299) == middle && ts_kinship_at(&kin, 7, 300) == young);
    ts_kinship_remove(&kin, middle);
    CHECK(ts_kinship_next(&kin, young) == old && ts_kinship_find(&kin, 7, 200) == 0);
    ts_kinship_close(&kin);
}

static void check_range(void)
{
    uint32_t one, other;

    CHECK(ts_kinship_open(&kin, 100) == 0);
    one = ts_kinship_add(&kin, 7, 100, 109);
    other = ts_kinship_add(&kin, 7, 130, 139);
    CHECK(ts_kinship_find(&kin, 7, 100) == one && ts_kinship_find(&kin, 7, 109) == one);
    CHECK(ts_kinship_find(&kin, 7, 99) == 0 && ts_kinship_find(&kin, 7, 110) == 0);
    CHECK(ts_kinship_find(&kin, 7, 130) == other && ts_kinship_find(&kin, 7, 140) == 0);
    ts_kinship_close(&kin);
}

static void check_lines(void)
{
    uint32_t all[4];

    CHECK(ts_kinship_open(&kin, 100) == 0);
    for (uint32_t i = 0; i < 4; i++) {
        all[i] = ts_kinship_add(&kin, i + 1, i, i);
        ts_kinship_line_up(&kin, all[i], TS_REPLACED);
    }
    ts_kinship_line_up(&kin, all[1], TS_ENDED);    /* from the middle */
    ts_kinship_line_up(&kin, all[1], TS_REPLACED); /* never back */
    CHECK(kin.n_in[TS_REPLACED] == 3 && kin.n_in[TS_ENDED] == 1);
    CHECK(kin.oldest[TS_REPLACED] == all[0] && kin.newest[TS_REPLACED] == all[3]);
    ts_kinship_remove(&kin, all[0]); /* from the front */
    CHECK(kin.oldest[TS_REPLACED] == all[2] && kin.all[all[2]].older == 0);
    ts_kinship_remove(&kin, all[3]); /* from the back */
    CHECK(kin.newest[TS_REPLACED] == all[2] && kin.all[all[2]].newer == 0);
    ts_kinship_line_up(&kin, all[2], TS_ENDED);
    CHECK(kin.oldest[TS_REPLACED] == 0 && kin.newest[TS_REPLACED] == 0);
    CHECK(kin.oldest[TS_ENDED] == all[1] && kin.newest[TS_ENDED] == all[2]);
    ts_kinship_close(&kin);
}

/* Past its first size, to its capacity: all are found, and their order stays. */
static void check_growth(void)
{
    enum { MOST = 5000, OF_ONE = 3 };

    CHECK(ts_kinship_open(&kin, MOST) == 0);
    for (uint32_t i = 0; i < MOST; i++)
        CHECK(ts_kinship_add(&kin, 1 + i / OF_ONE, i, i));
    CHECK(kin.n == MOST && ts_kinship_add(&kin, 1, MOST, MOST) == 0);
    for (uint32_t i = 0; i < MOST; i++) {
        uint32_t one = ts_kinship_find(&kin, 1 + i / OF_ONE, i), next;
        CHECK(one && kin.all[one].pid == 1 + i / OF_ONE && kin.all[one].start_ns == i);
        next = ts_kinship_next(&kin, one);
        CHECK(i % OF_ONE ? kin.all[next].start_ns == i - 1 : next == 0);
    }
    for (uint32_t i = 0; i < MOST; i++)
        ts_kinship_remove(&kin, ts_kinship_find(&kin, 1 + i / OF_ONE, i));
    CHECK(kin.n == 0 && kin.n_in[TS_REPLACED] == 0 && kin.oldest[TS_REPLACED] == 0);
    CHECK(ts_kinship_add(&kin, 1, 0, 0));
    ts_kinship_close(&kin);
}

int main(void)
{
    check_one_pid();
    check_range();
    check_lines();
    check_growth();
    printf("kin: pids, ranges, lines, growth: %lu checks\n", checks);
    return 0;
}
