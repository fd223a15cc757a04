/*
 * What an account's subscription at Close has to hold for the topic map: every pair of object type
 * and action that an entry takes, with the filter that lets through what any of them wants.
 *
 * Wildcards (`*`, `activity.*`, every action, every label of a category) stand for the documented
 * pairs of the catalog; pairs that are observed, disputed or discouraged, and those outside the
 * catalog, are there only when an entry names them. Fallback entries count as the others do: what
 * their filters refuse, nobody wants.
 *
 * Threads: none of its own; a list does not refer to the configuration once it is made.
 */
#ifndef BRIDGE_CONFIG_SUBSCRIBED_PAIRS_H
#define BRIDGE_CONFIG_SUBSCRIBED_PAIRS_H

#include <stddef.h>

struct config;
struct error;

struct subscribed_pair {
    char *object_type;
    char *action;
    char *extra_filter; /* JSON text as Close's API takes it; NULL: every event of the pair */
};

struct subscribed_pairs {
    struct subscribed_pair *pairs; /* the catalog's in its order, then others in that of the map */
    size_t count;
};

/* Makes the list of one account by its name. `*out_pairs` is released with
 * subscribed_pairs_release(), also when it has no pair. ERROR_FATAL without memory. */
int subscribed_pairs_list(const struct config *config, const char *account,
                          struct subscribed_pairs *out_pairs, struct error *err);

/* Zero-initialised is fine. */
void subscribed_pairs_release(struct subscribed_pairs *pairs);

#endif
