/* tally.c: each member of the struct that is summed, and the commands. */
#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

struct member {
    const char *name;
    size_t offset, size;
};

static const struct member members[] = {
#define X(name, offset, size, at_15, since) {#name, offset, size},
#include "members.inc"
#undef X
};

#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

enum rule { NOT_SUMMED, ADDED, LARGEST, SMALLEST };

static int ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

static enum rule rule_of(const struct member *member)
{
    static const char *const alone[] = {"ac_btime64", "ac_tgetime", "ac_exe_dev",
                                        "ac_exe_inode"};

    for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++)
        if (strcmp(member->name, alone[i]) == 0)
            return NOT_SUMMED;
    if (member->size != 8)
        return NOT_SUMMED;
    if (ends_with(member->name, "_min"))
        return SMALLEST;
    if (ends_with(member->name, "_max") || strncmp(member->name, "hiwater_", 8) == 0)
        return LARGEST;
    return ADDED;
}

static void set(struct ts_record *record, size_t offset, uint64_t value)
{
    memcpy((char *)&record->stats + offset, &value, sizeof(value));
}

/* What a process with these two values in one member, and nothing else, adds up to. Every way
 * to add them must agree. */
static struct ts_sums sums_of_two(size_t offset, uint64_t first, uint64_t second)
{
    struct ts_record one = {.flags = TS_SETTLED}, other = {.flags = TS_SETTLED};
    struct ts_sums sums = {.threads = 0}, alone = {.threads = 0};
    struct ts_totals records = {.processes = 0}, totals = {.processes = 0},
                     grown = {.processes = 0}, copies = {.processes = 0};
    struct ts_ended ended = {.status = 0};

    set(&one, offset, first);
    set(&other, offset, second);
    ts_sums_add(&sums, &one);
    alone = sums;
    ts_sums_add(&sums, &other);
    ts_totals_add(&totals, &sums, &ended);
    ts_totals_add_record(&records, &one);
    ts_totals_add_record(&records, &other);
    ts_totals_add(&grown, &alone, &ended);
    ts_totals_add_thread(&grown, &alone, &sums);
    ts_totals_add_totals(&copies, &totals);
    CHECK(memcmp(totals.sums, sums.values, sizeof(sums.values)) == 0);
    CHECK(memcmp(records.sums, sums.values, sizeof(sums.values)) == 0);
    CHECK(memcmp(grown.sums, sums.values, sizeof(sums.values)) == 0);
    CHECK(memcmp(copies.sums, sums.values, sizeof(sums.values)) == 0);
    return sums;
}

static void check_members(void)
{
    uint32_t place = 0;

    for (size_t m = 0; m < N_MEMBERS; m++) {
        enum rule rule = rule_of(&members[m]);
        uint64_t expected = rule == ADDED ? 12 : rule == LARGEST ? 7 : 5;
        struct ts_sums sums, turned;
        if (members[m].size != 8)
            continue;
        sums = sums_of_two(members[m].offset, 5, 7);
        turned = sums_of_two(members[m].offset, 7, 5);
        CHECK(memcmp(&sums, &turned, sizeof(sums)) == 0);
        for (uint32_t i = 0; i < TS_SUMS; i++)
            CHECK(sums.values[i] == (rule != NOT_SUMMED && i == place ? expected : 0));
        place += rule != NOT_SUMMED;
        if (rule == SMALLEST) /* 0: there was no delay */
            CHECK(sums_of_two(members[m].offset, 0, 9).values[place - 1] == 9);
    }
    CHECK(place == TS_SUMS - 1); /* the last is final_cpu_ns */
}

static void check_cpu(void)
{
    struct ts_record record = {.flags = TS_SETTLED | TS_DELAY_EXCEEDS, .final_cpu_ns = 40};
    struct ts_sums sums = {.threads = 0};

    record.stats.cpu_run_virtual_total = 30;
    ts_sums_add(&sums, &record);
    record.flags = 0; /* not settled: what its record says */
    ts_sums_add(&sums, &record);
    CHECK(sums.threads == 2 && sums.unsettled == 1 && sums.exceeding == 1);
    CHECK(sums.values[TS_SUMS - 1] == 40);
    CHECK(ts_sums_cpu_ns(&sums) == 70);
    record.stats.cpu_run_virtual_total = 100; /* as the group's */
    ts_sums_raise(&sums, &record);
    CHECK(ts_sums_cpu_ns(&sums) == 100);
}

static void check_match(void)
{
    struct ts_record record = {.flags = 0}, group = {.flags = 0};
    struct ts_sums sums = {.threads = 0};

    CHECK(!ts_sums_match(&sums, &group)); /* a kernel that sums nothing proves nothing */
    record.stats.cpu_count = 4;
    record.stats.cpu_run_virtual_total = 9;
    ts_sums_add(&sums, &record);
    group.stats.cpu_count = 4;
    group.stats.cpu_run_virtual_total = 9;
    CHECK(ts_sums_match(&sums, &group));
    group.stats.cpu_run_virtual_total = 10;
    CHECK(!ts_sums_match(&sums, &group));
    group.stats.cpu_run_virtual_total = 9;
    group.stats.cpu_count = 5;
    CHECK(!ts_sums_match(&sums, &group));
}

static void check_statuses(void)
{
    struct ts_record record = {.flags = 0};
    struct ts_totals totals = {.processes = 0}, more = {.processes = 0};

    for (uint32_t status = 0; status < 256; status++) {
        record.stats.ac_exitcode = status << 8;
        ts_totals_add_record(&totals, &record);
        CHECK(totals.statuses[status] == 1);
    }
    for (uint32_t signal = 1; signal < 128; signal++) {
        record.stats.ac_exitcode = signal | 0x80;
        ts_totals_add_record(&totals, &record);
        CHECK(totals.signals[signal] == 1);
    }
    ts_totals_add_totals(&more, &totals);
    ts_totals_add_totals(&more, &totals);
    CHECK(more.processes == 2 * (256 + 127) && more.statuses[255] == 2 &&
          more.signals[127] == 2);
}

static void check_commands(void)
{
    static struct ts_commands commands;
    struct ts_totals *first, *other;
    char comm[32] = "command";

    first = ts_commands_find(&commands, comm, 1, 0);
    CHECK(ts_commands_find(&commands, comm, 1, 0) == first);
    CHECK(ts_commands_find(&commands, comm, 0, 1) != first);
    for (uint64_t inode = 1; inode < TS_MOST_COMMANDS; inode++)
        ts_commands_find(&commands, comm, 0, inode)->processes = inode;
    CHECK(commands.n == TS_MOST_COMMANDS);
    for (uint64_t inode = 1; inode < TS_MOST_COMMANDS; inode++)
        CHECK(ts_commands_find(&commands, comm, 0, inode)->processes == inode);
    other = ts_commands_find(&commands, comm, 0, TS_MOST_COMMANDS); /* one too many */
    CHECK(commands.n == TS_MOST_COMMANDS + 1);
    CHECK(strcmp(commands.found[TS_MOST_COMMANDS]->comm, "(other commands)") == 0);
    for (uint64_t inode = 2000; inode < 3000; inode++)
        CHECK(ts_commands_find(&commands, comm, 0, inode) == other);
    CHECK(ts_commands_find(&commands, comm, 1, 0) == first);
    ts_commands_free(&commands);
    CHECK(commands.n == 0);
}

int main(void)
{
    check_members();
    check_cpu();
    check_match();
    check_statuses();
    check_commands();
    printf("tally: %zu members, statuses, commands: %lu checks\n", N_MEMBERS, checks);
    return 0;
}
