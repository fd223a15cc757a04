/*
 * Reads a window of time of Close's Event Log, page by page, and gives its events oldest first.
 *
 * The log comes newest first by date_updated, fifty a page, with a cursor that expires (CLOSE.md
 * section 6). Of a window that holds more than fits in memory, the newer parts are passed over and
 * it is remembered where they end; the oldest part is what is given. The others are windows that
 * fit. An event that changes meanwhile leaves the window for a later one, with a newer date.
 *
 * Close ignores parameters that it does not know: what comes is checked to lie in the window.
 *
 * Threads: one at a time.
 */
#ifndef BRIDGE_CLOSE_EVENT_LOG_H
#define BRIDGE_CLOSE_EVENT_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/close/event_log_page.h"

struct close_access;
struct close_api;
struct error;
struct log_reading; /* opaque: defined in event_log.c */

/* By date_updated, in milliseconds since 1970. */
struct log_window {
    int64_t since_ms; /* included */
    int64_t until_ms; /* not included */
};

enum log_progress {
    LOG_HAS_MORE, /* ask again */
    LOG_COMPLETE, /* event_log_entries() has all of event_log_window() */
    LOG_EXPIRED,  /* the cursor: begin again, with the oldest of event_log_stops() as the end */
    LOG_FAILED,   /* `err` says why; asked again, it goes on where it was */
};

/* Returns owned (event_log_end); never NULL. */
struct log_reading *event_log_begin(struct log_window window);

/* Reads one more page. */
enum log_progress event_log_next(struct log_reading *reading, struct close_api *api,
                                 struct close_access *access, struct error *err);

/* After LOG_COMPLETE: the events, oldest first. They live as long as the reading. */
const struct log_entry *event_log_entries(const struct log_reading *reading, size_t *out_count);

/* The part of the window that was not passed over. */
struct log_window event_log_window(const struct log_reading *reading);

/* Where the parts that were passed over begin, the newest first. */
const int64_t *event_log_stops(const struct log_reading *reading, size_t *out_count);

/* NULL is a no-op. */
void event_log_end(struct log_reading *reading);

/* Asks for one event: whether the log can be read at all, and for what Close's clock shows. */
int event_log_probe(struct close_api *api, struct close_access *access, struct error *err);

#endif
