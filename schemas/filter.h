/*
 * Close's extra_filter, evaluated here too, because two entries may want one pair and the Event Log
 * cannot filter.
 *
 * Operators as Close documents them: equals, not_equals, is_null, non_null, contains, and, or, not,
 * field_accessor, any_array_value. It looks at `data` and, for deletions, at `previous_data`.
 *
 * Threads: a filter is read-only once made: any thread.
 */
#ifndef SCHEMAS_FILTER_H
#define SCHEMAS_FILTER_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct error;
struct event;
struct filter; /* opaque: defined in filter.c */

/* Compiles a filter from its JSON text. Returns owned (filter_free); NULL: `err` names the operator
 * or field. */
struct filter *filter_compile(struct text json, struct error *err);
void filter_free(struct filter *filter);

/* The JSON text it was made from, normalised, for Close's API. Lives as long as the filter. */
struct text filter_json(const struct filter *filter);

/* True when the event passes. An event without the data to look at passes no filter. */
bool filter_matches(const struct filter *filter, const struct event *event);

#endif
