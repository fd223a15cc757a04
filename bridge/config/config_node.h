/*
 * The configuration file as a tree: maps, lists and scalars, each with its line.
 *
 * What could be read in two ways is refused here: repeated keys, tags, a second document, aliases
 * that grow the tree out of proportion. Scalars hold no NUL byte. Release wipes every scalar, for
 * some are secrets.
 *
 * One thread.
 */
#ifndef BRIDGE_CONFIG_CONFIG_NODE_H
#define BRIDGE_CONFIG_CONFIG_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/text.h"

struct buf;
struct config_report;

enum config_node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct config_node {
    enum config_node_kind kind;
    int line; /* from 1; of an alias: where its anchor stands */
    const struct config_node *parent;
    char *key;                  /* inside a map; else NULL */
    size_t index;               /* inside a list or map, from 0 */
    char *text;                 /* of a scalar, terminated */
    bool is_plain;              /* a scalar without quotes */
    bool is_substituted;        /* its text came from outside and may be secret */
    bool is_repeated;           /* its key stands in the map before: reported, to be passed over */
    bool is_broken;             /* a mistake was reported: its text means nothing */
    struct config_node **items; /* of a list or map */
    size_t count;
};

/* Parses a whole file. Returns owned (config_node_free); NULL when the report got mistakes. */
struct config_node *config_node_parse(struct text yaml, struct config_report *report);
void config_node_free(struct config_node *node);

/* NULL when `map` is no map or has no such key. */
struct config_node *config_node_get(const struct config_node *map, const char *key);

/* True for a plain scalar that YAML reads as null. */
bool config_node_is_null(const struct config_node *node);

/* "a mapping", "a list", "a value" or "nothing", for messages. */
const char *config_node_kind_name(const struct config_node *node);

/* Appends a path such as topic_map[2].kafka.topic; nothing for the root. */
void config_node_append_path(const struct config_node *node, struct buf *out);

#endif
