/*
 * JSON as MessagePack, value by value: integers stay integers over the whole range of int64 and
 * uint64, other numbers become doubles, and a number beyond all of these becomes a string of its
 * digits. The order of keys and repeated keys are kept.
 */
#ifndef SCHEMAS_MSGPACK_WRITER_H
#define SCHEMAS_MSGPACK_WRITER_H

#include "bridge/base/text.h"

struct buf;
struct error;

/* Appends the valid JSON value `json` to `out`. ERROR_INPUT when it is nested too deeply,
 * ERROR_FATAL without memory. */
int msgpack_write_json(struct buf *out, struct text json, struct error *err);

#endif
