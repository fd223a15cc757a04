/*
 * Refuses requests whose framing two parsers could read differently, because a proxy in front of us
 * may be the other one. h2o 2.2.5 accepts all of these (TRAPS H12; h2o #3342, #3396).
 *
 * A pure function: any thread.
 */
#ifndef BRIDGE_FRAMING_GUARD_H
#define BRIDGE_FRAMING_GUARD_H

#include <stdbool.h>

#include "bridge/base/text.h"

/*
 * `head` is everything from the request line to the empty line; header names may be in any case.
 * Returns NULL when it is sound, else a sentence. Sets whether the body is chunked.
 */
const char *framing_check(struct text head, bool *out_is_chunked);

/* The size of the head at the start of `bytes`, its empty line included; 0 when it is not there. */
size_t framing_head_size(struct text bytes);

#endif
