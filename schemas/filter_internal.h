/*
 * What the files of the filter share: the tree that a filter is compiled to.
 *
 * filter.c compiles it, filter_match.c evaluates it, filter_writer.c writes it as JSON again.
 */
#ifndef SCHEMAS_FILTER_INTERNAL_H
#define SCHEMAS_FILTER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"

enum filter_operator {
    OP_EQUALS,
    OP_NOT_EQUALS,
    OP_IS_NULL,
    OP_NON_NULL,
    OP_CONTAINS,
    OP_AND,
    OP_OR,
    OP_NOT,
    OP_FIELD_ACCESSOR,
    OP_ANY_ARRAY_VALUE,
    OP_COUNT
};

struct filter_node {
    enum filter_operator type;
    struct text value; /* JSON, inside the filter's source */
    char *field;       /* decoded */
    struct filter_node **children;
    size_t child_count;
};

struct filter {
    char *source;      /* as it was given */
    struct buf normal; /* the same, written anew */
    struct filter_node *root;
};

/* As Close writes it. */
const char *filter_operator_name(enum filter_operator type);

/* Appends the tree as JSON in one spelling: no space, `type` first, no escape without need. */
void filter_write(const struct filter_node *node, struct buf *out);

#endif
