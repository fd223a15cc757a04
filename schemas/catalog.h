/*
 * The events that Close has: the pairs of object type and action with their category, label, group
 * and status.
 *
 * Compiled in from schemas/catalog.csv. Read-only, any thread.
 */
#ifndef SCHEMAS_CATALOG_H
#define SCHEMAS_CATALOG_H

#include <stddef.h>

#include "bridge/base/text.h"

enum catalog_status {
    CATALOG_DOCUMENTED,
    CATALOG_OBSERVED,    /* seen on the wire, not in Close's list */
    CATALOG_DISPUTED,    /* sources disagree */
    CATALOG_DISCOURAGED, /* Close advises against it: fires while somebody types */
};

struct catalog_pair {
    const char *category;
    const char *label;
    const char *group; /* "" for none */
    const char *object_type;
    const char *action;
    enum catalog_status status;
};

extern const struct catalog_pair catalog_pairs[];
extern const size_t catalog_size;

/* NULL when the pair is not in the catalog. Constant time. */
const struct catalog_pair *catalog_find(struct text object_type, struct text action);

const char *catalog_status_name(enum catalog_status status);

#endif
