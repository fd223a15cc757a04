/*
 * "Did you mean": the known name that a mistyped one is closest to.
 *
 * Pure functions, any thread.
 */
#ifndef BRIDGE_BASE_SUGGEST_H
#define BRIDGE_BASE_SUGGEST_H

#include <stddef.h>

#include "bridge/base/text.h"

/*
 * The nearest of names while they are offered one by one. Zero-initialise, then set `word`; `word`
 * and the names offered are borrowed for as long as it is used.
 */
struct suggestion {
    struct text word;
    const char *name; /* NULL: nothing offered is near enough to be meant */
    size_t distance;  /* edits between word and name */
};

void suggestion_offer(struct suggestion *suggestion, const char *name);

/* The nearest of `names`, which a NULL ends; NULL when none is near. */
const char *suggest(struct text word, const char *const *names);

#endif
