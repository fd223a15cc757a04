/*
 * Close's extra_filter, evaluated here too, because two entries may want one pair and the Event Log
 * cannot filter.
 *
 * Operators as Close documents them: equals, not_equals, is_null, non_null, contains, and, or, not,
 * field_accessor, any_array_value. A field is a flat key such as `custom.cf_x`, or else a path with
 * dots. The outermost accessor finds members of the event (`user_id`, `changed_fields`, `data`
 * ...), as at Close, and what the event does not have in its `data`, for deletions in
 * `previous_data`. A missing field is null. Comparisons are typed: 1 equals 1.0, "1" does not.
 *
 * Threads: a filter is read-only once made: any thread.
 */
#ifndef SCHEMAS_FILTER_H
#define SCHEMAS_FILTER_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct buf;
struct error;
struct event;
struct filter; /* opaque: defined in filter.c */

/* Compiles a filter from its JSON text: at most 64 KiB, 32 levels. Returns owned (filter_free);
 * NULL: `err` names the operator or member. */
struct filter *filter_compile(struct text json, struct error *err);
void filter_free(struct filter *filter);

/* The JSON text it was made from, in one spelling: no space, `type` first, no escape without need.
 * Lives as long as the filter. */
struct text filter_json(const struct filter *filter);

/*
 * Appends the filter as Close's API is to get it, which lets through what it lets through here.
 * Close looks for a field in the event alone and knows no paths, so that what is not a member of
 * the event becomes a field of `data`, with `is_deletion` of `previous_data`, and a path becomes
 * one accessor inside the other.
 */
void filter_append_for_close(const struct filter *filter, bool is_deletion, struct buf *out);

/* True when the event passes. What is not an event (EVENT_IS_OPAQUE) passes no filter. */
bool filter_matches(const struct filter *filter, const struct event *event);

#endif
