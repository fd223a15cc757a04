/*
 * The content of a small file of ours: JSON with a checksum over its records, so that a flipped bit
 * is damage, not data.
 *
 * Pure functions, any thread.
 */
#ifndef BRIDGE_RUNTIME_CHECKED_JSON_H
#define BRIDGE_RUNTIME_CHECKED_JSON_H

#include "bridge/base/text.h"

struct buf;
struct error;

/* Appends the whole content with `accounts`, a JSON array, in it. */
void checked_json_append(struct text accounts, struct buf *out);

/*
 * Finds the array in a content behind which JSON_PADDING readable bytes follow. ERROR_INPUT: it is
 * damaged; ERROR_CONFIG: a later version of the bridge wrote it.
 */
int checked_json_read(struct text content, struct text *out_accounts, struct error *err);

#endif
