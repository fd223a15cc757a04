/*
 * What differs between two configurations, by the names of the settings.
 *
 * Any thread; both are read-only.
 */
#ifndef BRIDGE_CONFIG_CONFIG_DIFF_H
#define BRIDGE_CONFIG_CONFIG_DIFF_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/config/topic_map.h"

struct config;
struct directive;

/*
 * Calls `visit` for every setting that is not the same, in the order of the table. `name` is
 * its path, with an account's name in the brackets ("accounts[main].replay_window"); an account or
 * a publisher that is only in one of them is named as a whole, and so is the topic map.
 */
void config_diff(const struct config *before, const struct config *after,
                 void (*visit)(void *context, const char *name, const struct directive *row),
                 void *context);

/* The same for the settings that a reload may not change, alone; `after` may have mistakes. */
void config_diff_fixed(const struct config *before, const struct config *after,
                       void (*visit)(void *context, const char *name, const struct directive *row),
                       void *context);

/* True when a publisher that runs with the options of `before` need not be made anew. Files that
 * its options name count as changed when they were written since. */
bool config_same_publisher(const struct config *before, const struct config *after,
                           enum publisher_index publisher);

bool config_same_string(const char *a, const char *b); /* NULL is a value of its own */

/* In any order; none holds a string twice. */
bool config_same_strings(char *const *a, size_t a_count, char *const *b, size_t b_count);

#endif
