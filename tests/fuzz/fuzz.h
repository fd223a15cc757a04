/*
 * What the fuzz targets share.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/text.h"

/* What has to hold for every input. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy in memory of its own, so that a sanitizer sees what reads beyond it; `padding` zeroes, one
 * at least, stand behind it. Freed by the caller. */
static inline char *fuzz_copy(const void *data, size_t size, size_t padding)
{
    char *copy = calloc(1, size + padding);

    MUST(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* Without the white space at its end, such as the newline of a file of the corpus. */
static inline struct text fuzz_trimmed(const void *data, size_t size)
{
    const char *chars = data;

    while (size > 0 && strchr(" \n\r\t", chars[size - 1]))
        size--;
    return (struct text){chars, size};
}

#endif
