/* The datagrams in tests/data/frames: captured from six kernels, one of them big-endian. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stddef.h>
#include <stdint.h>

struct frame {
    char name[64]; /* kernel/what */
    int is_native; /* of this machine's byte order */
    int is_record; /* not an answer alone */
    size_t size;
    uint8_t bytes[4096];
};

/* Calls `take` with each frame below `folder`. Returns how many there are. */
unsigned each_frame(const char *folder, void (*take)(const struct frame *frame));

/* The frame of this name. */
struct frame read_frame(const char *folder, const char *name);

#endif
