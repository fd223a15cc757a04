/*
 * What the sync does with lists of pairs: compare, copy, write. The lists are struct
 * subscribed_pairs, of what is wanted and of what Close has.
 *
 * Pure functions, any thread. Two filters are the same when they are equal as JSON.
 */
#ifndef BRIDGE_CLOSE_PAIR_LIST_H
#define BRIDGE_CLOSE_PAIR_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/text.h"
#include "bridge/config/subscribed_pairs.h"

struct buf;

/* The pair of the same object type and action, whatever its filter; NULL when there is none. */
const struct subscribed_pair *pair_list_find(const struct subscribed_pairs *list,
                                             const struct subscribed_pair *pair);

bool pair_has_filter_of(const struct subscribed_pair *a, const struct subscribed_pair *b);

/* Whether they hold the same pairs, and with_filters the same filters, in any order. */
bool pair_list_equal(const struct subscribed_pairs *a, const struct subscribed_pairs *b,
                     bool with_filters);

/* Adds a copy of the pair; one of the same object type and action is replaced. */
void pair_list_put(struct subscribed_pairs *list, const struct subscribed_pair *pair);

void pair_list_remove(struct subscribed_pairs *list, const struct subscribed_pair *pair);

/* Replaces `list` by a copy of `source`. */
void pair_list_copy(struct subscribed_pairs *list, const struct subscribed_pairs *source);

/* Appends those of `a` that `b` lacks, as [["lead","created"],...]. */
void pair_list_append_difference(const struct subscribed_pairs *a, const struct subscribed_pairs *b,
                                 struct buf *json);

/* Appends the list as the `events` of Close's API. */
void pair_list_append_events(const struct subscribed_pairs *list, struct buf *json);

#endif
