/* The datagrams in tests/data/frames: captured from six kernels, one of them big-endian. */
#include "frames.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

struct frame read_frame(const char *folder, const char *name)
{
    struct frame frame = {0};
    char path[512];
    FILE *file;

    CHECK(snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path));
    file = fopen(path, "rb");
    if (!file)
        perror(path);
    CHECK(file);
    frame.size = fread(frame.bytes, 1, sizeof(frame.bytes), file);
    CHECK(frame.size > 0 && frame.size < sizeof(frame.bytes));
    fclose(file);
    CHECK(snprintf(frame.name, sizeof(frame.name), "%s", name) < (int)sizeof(frame.name));
    frame.is_native = (strncmp(name, "s390x", 5) == 0) == BIG_ENDIAN_HERE;
    frame.is_record = strstr(name, "/pid.") || strstr(name, "/tgid.") || strstr(name, "/exit");
    return frame;
}

unsigned each_frame(const char *folder, void (*take)(const struct frame *frame))
{
    char pattern[512];
    glob_t found;

    CHECK(snprintf(pattern, sizeof(pattern), "%s/*/*.bin", folder) < (int)sizeof(pattern));
    CHECK(glob(pattern, 0, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct frame frame = read_frame(folder, found.gl_pathv[i] + strlen(folder) + 1);
        take(&frame);
    }
    globfree(&found);
    return (unsigned)found.gl_pathc;
}
