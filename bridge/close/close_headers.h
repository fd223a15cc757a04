/*
 * What the headers of Close's answers say about time: when to ask again, how much may still be
 * asked, and what Close's clock shows.
 *
 * RateLimit is read in both spellings, "limit=100, remaining=50, reset=5" (documented) and with
 * semicolons (seen live); seconds may have a fraction. Pure functions, any thread.
 */
#ifndef BRIDGE_CLOSE_CLOSE_HEADERS_H
#define BRIDGE_CLOSE_CLOSE_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

enum { CLOSE_WAIT_MAX_MS = 24 * 3600 * 1000 }; /* longer waits are taken for this one */

/* Zero-initialise before the first line of an answer. */
struct close_headers {
    bool has_date;
    int64_t date_ms; /* since 1970: Close's clock, in whole seconds */
    bool has_retry_after;
    int64_t retry_after_ms; /* from now; a date counts from the Date line before it */
    bool has_rate_limit;
    int64_t remaining; /* requests that may still be sent before the reset; -1: not said */
    int64_t reset_ms;  /* from now; -1: not said */
};

/* Takes in one line of a head, with or without its line end. Lines that say nothing of this are
 * passed over, as are values that are malformed. */
void close_headers_read(struct close_headers *headers, struct text line);

/* How long to wait before the next request, in milliseconds: what Retry-After says, else the reset
 * of an exhausted (or, with `was_refused`, any) RateLimit; -1 when nothing is said. */
int64_t close_headers_wait_ms(const struct close_headers *headers, bool was_refused);

/* Reads "Sun, 06 Nov 1994 08:49:37 GMT". */
bool close_headers_date(struct text value, int64_t *out_ms);

#endif
