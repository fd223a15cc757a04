/*
 * One page of Close's Event Log (GET /event/), as slices of the answer: nothing is copied but the
 * cursor.
 *
 * Pure functions, any thread.
 */
#ifndef BRIDGE_CLOSE_EVENT_LOG_PAGE_H
#define BRIDGE_CLOSE_EVENT_LOG_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct error;

/* One element of the page's `data`, whatever it is. */
struct log_entry {
    struct text json; /* the bytes that Close sent */
    bool has_date;
    int64_t date_ms; /* date_updated, since 1970 */
    bool has_data;   /* `data` or `previous_data` is there, perhaps as null: who may not see them
                        (CLOSE.md section 6) gets neither */
};

struct log_page {
    struct log_entry *entries; /* newest first */
    size_t count;
    char *cursor_next; /* to older ones; NULL: there are none */
};

/*
 * Reads a page; JSON_PADDING readable bytes must follow `json`, from which the entries borrow.
 * `out_page` is owned (event_log_page_release). ERROR_TRANSIENT: the answer is not JSON;
 * ERROR_CONFIG: it is, but no page of an Event Log.
 */
int event_log_page_parse(struct text json, struct log_page *out_page, struct error *err);

void event_log_page_release(struct log_page *page);

#endif
