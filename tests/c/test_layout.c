/* layout.c: structs of every version and every size, in this machine's byte order. */
#include <stdio.h>
#include <string.h>

#include "abi.h"
#include "check.h"
#include "properties.h"
#include "reference.h"
#include "wire.h"

#define LONGEST 800u

static struct wire wire;

static void check_version(unsigned version)
{
    for (size_t size = 2; size <= LONGEST; size++) {
        wire.size = 0;
        wire_struct(&wire, version, size);
        check_layout(wire.bytes, size, version);
    }
}

/* A version 17 that is too short: what is there in place of the moments may mean
 * something else, as in a layout of 592 bytes that was proposed. */
static void check_rival(void)
{
    static const size_t sizes[] = {561, 568, 576, 592, 640, 680, 687};
    static const uint8_t zeros[128];
    struct ts_stats row;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (unsigned version = 17; version <= 18; version++) {
            wire.size = 0;
            wire_struct(&wire, version, sizes[i]);
            CHECK(memcmp(wire.bytes + 560, zeros, sizes[i] - 560) != 0);
            memset(&row, 0xa5, sizeof(row));
            ts_layout_convert(&row, wire.bytes, sizes[i], version);
            CHECK(!ts_layout_is_newest(sizes[i], version));
            CHECK(memcmp(&row, wire.bytes, 560) == 0);
            CHECK(memcmp(&row.cpu_delay_max_ts, zeros, sizeof(zeros)) == 0);
        }
    CHECK(ts_layout_is_newest(560, 17));
}

/* What the members mean, by example: the extremes of version 15 stand in the middle. */
static void check_examples(void)
{
    static const unsigned moved[][2] = {{14, 496}, {14, 560}, {15, 560}};
    struct ts_stats row;
    uint64_t value;

    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        CHECK(!ts_layout_is_newest(moved[i][1], moved[i][0]));
        wire.size = 0;
        wire_struct(&wire, moved[i][0], moved[i][1]);
        ts_layout_convert(&row, wire.bytes, moved[i][1], moved[i][0]);
        memcpy(&value, wire.bytes + 32, sizeof(value));
        CHECK(row.cpu_delay_max == value);
        memcpy(&value, wire.bytes + 40, sizeof(value));
        CHECK((moved[i][1] == 496 ? row.blkio_count : row.cpu_delay_min) == value);
        memcpy(&value, wire.bytes + moved[i][1] - 8, sizeof(value));
        CHECK((moved[i][1] == 496 ? row.irq_delay_max : row.irq_delay_min) == value);
    }
    check_rival();
    CHECK(!ts_layout_is_newest(328, 3));
    CHECK(ts_layout_is_newest(688, 17) && ts_layout_is_newest(688, 18));
    CHECK(!ts_layout_is_newest(696, 17) && !ts_layout_is_newest(696, 18));
}

int main(void)
{
    for (unsigned version = 4; version <= 18; version++)
        check_version(version);
    for (unsigned version = 4; version <= 17; version++)
        CHECK(ts_layout_is_newest(reference_size(version), version) == (version != 15));
    check_examples();
    printf("layout: versions 4 to 18 of 2 to %u bytes: %lu checks\n", LONGEST, checks);
    return 0;
}
