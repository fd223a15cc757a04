/*
 * The content of the keys file: JSON with a checksum over the records, so that a key with a flipped
 * bit is damage, not a key.
 *
 * Pure functions, any thread.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_KEY_STORE_FORMAT_H
#define BRIDGE_SUBSCRIPTIONS_KEY_STORE_FORMAT_H

#include <stddef.h>

#include "bridge/base/text.h"

struct buf;
struct error;
struct stored_account;

void key_store_format(const struct stored_account *records, size_t count, struct buf *out);

/*
 * `out_records` is owned (stored_account_release() each, then free). JSON_PADDING readable bytes
 * must follow the content. ERROR_INPUT: it is damaged; ERROR_CONFIG: a later version of the bridge
 * wrote it.
 */
int key_store_parse(struct text content, struct stored_account **out_records, size_t *out_count,
                    struct error *err);

#endif
