/*
 * Writes JSON for people to read: one member a line, indented by two spaces a level.
 *
 * Zero-initialise it, but for `out`; a failure of memory stays in `out`. Values without a name are
 * elements of an array, or the document itself.
 */
#ifndef BRIDGE_BASE_JSON_WRITER_H
#define BRIDGE_BASE_JSON_WRITER_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct buf;

struct json_writer {
    struct buf *out;
    unsigned depth;
    bool has_members; /* the innermost open object or array */
};

void json_writer_open_object(struct json_writer *writer, const char *name);
void json_writer_close_object(struct json_writer *writer);
void json_writer_open_array(struct json_writer *writer, const char *name);
void json_writer_close_array(struct json_writer *writer);

void json_writer_string(struct json_writer *writer, const char *name, const char *value);
void json_writer_printf(struct json_writer *writer, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); /* a string too, cut at 4 KiB */
/* {"$ref": ...}, on one line. */
void json_writer_reference(struct json_writer *writer, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void json_writer_bool(struct json_writer *writer, const char *name, bool value);
void json_writer_int(struct json_writer *writer, const char *name, long long value);
/* A value that is JSON already. */
void json_writer_json(struct json_writer *writer, const char *name, struct text json);

#endif
