/*
 * A growing byte buffer for text that is built piece by piece. Zero-initialised it is empty.
 *
 * Running out of memory sets `failed` and drops what was appended since, so that a writer checks
 * once, at the end.
 */
#ifndef BRIDGE_BASE_BUF_H
#define BRIDGE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct buf {
    char *data; /* terminated whenever it is not NULL */
    size_t size;
    size_t capacity;
    bool failed;
};

void buf_release(struct buf *buf);

/* Keeps the memory, forgets the content and the failure. */
void buf_clear(struct buf *buf);

/* Makes room for `size` more bytes and a terminator. */
bool buf_reserve(struct buf *buf, size_t size);

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_text(struct buf *buf, struct text text);
void buf_append_string(struct buf *buf, const char *string);
void buf_append_char(struct buf *buf, char c);

/* A comma, unless a JSON list or object has just begun. */
void buf_append_comma(struct buf *buf);
void buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Appends `text` as a JSON string with its quotes; control bytes are escaped, other bytes pass. */
void buf_append_json_string(struct buf *buf, struct text text);

/* Appends a wall time as 2026-01-31T12:00:00.123Z. */
void buf_append_utc(struct buf *buf, int64_t wall_ms);

struct text buf_text(const struct buf *buf);

#endif
