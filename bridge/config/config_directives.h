/*
 * The keys of the configuration: one row is the parser, the default, the range and the
 * documentation.
 *
 * A row's path begins with where its mapping stands: "listen.max_body", "accounts[].name". Rows of
 * one mapping write into one struct, whose address is the `base` of config_directives_apply().
 *
 * One thread.
 */
#ifndef BRIDGE_CONFIG_CONFIG_DIRECTIVES_H
#define BRIDGE_CONFIG_CONFIG_DIRECTIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct config_node;
struct config_report;
struct error;

/* What is at hand while a configuration is read. */
struct config_loader {
    struct config *config;
    const struct config *in_force; /* NULL: there is none that it is to take over from */
    struct config_report *report;
    const struct config_node *root;
    const char *directory; /* of the file: where relative paths begin */
};

enum directive_type {
    DIRECTIVE_BYTES,    /* uint64_t */
    DIRECTIVE_DURATION, /* int64_t milliseconds; 0 passes when `zero_is_off` */
    DIRECTIVE_SECONDS,  /* uint32_t; a plain number is seconds */
    DIRECTIVE_COUNT,    /* uint32_t */
    DIRECTIVE_BOOL,     /* bool */
    DIRECTIVE_CHOICE,   /* int: the index in `choices` */
    DIRECTIVE_STRING,   /* char *, owned; min and max are its size */
    DIRECTIVE_SECRET,   /* the same, never shown */
    DIRECTIVE_PATH,     /* the same, relative paths taken from the file's folder */
    DIRECTIVE_CUSTOM,   /* `parse` */
    DIRECTIVE_NODE,     /* `load`: not a single value */
};

struct directive {
    const char *path;
    enum directive_type type;
    bool is_required;
    bool zero_is_off;
    bool needs_restart;            /* a reload may not change it */
    size_t offset;                 /* in the struct of its mapping */
    enum directive_type stored_as; /* DIRECTIVE_CUSTOM that is one value at `offset` */
    const char *default_value;     /* as written in a file; NULL: none */
    uint64_t min;
    uint64_t max;
    const char *const *choices; /* ends with NULL */
    /* Reads one value into `base`; an error is half a sentence that follows the value. */
    int (*parse)(struct config_loader *loader, const char *value, void *base, struct error *err);
    /* Reads a whole node and reports its mistakes itself. */
    void (*load)(struct config_loader *loader, const struct config_node *node, void *base);
    /* Whether two structs of the mapping have the same; for what is not one value at `offset`. */
    bool (*is_same)(const void *before, const void *after);
    const char *help;
};

/* Sorted by path within a mapping. */
extern const struct directive config_directives[];
extern const size_t config_directive_count;

/* Sets the defaults of every row of the mapping `prefix` ("" for the file) and of the mappings in
 * it that share its struct. */
void config_directives_default(struct config_loader *loader, const char *prefix, void *base);

/* Reads the mapping `node`: every key by its row; unknown and missing keys are mistakes. */
void config_directives_apply(struct config_loader *loader, const struct config_node *node,
                             const char *prefix, void *base);

/* Reads one key of the mapping `prefix` when there is a row for it; false when there is none. */
bool config_directives_apply_key(struct config_loader *loader, const struct config_node *node,
                                 const char *prefix, void *base);

/* Reports rows of `prefix` that are required and not in `node`. */
void config_directives_require(struct config_loader *loader, const struct config_node *node,
                               const char *prefix);

/* The known key of `prefix` that is nearest to `key`; NULL when none is near. Owned (free). */
char *config_directives_nearest(const char *prefix, const char *key);

/* Reports unless the node is of that kind (enum config_node_kind). */
bool config_expect_map(struct config_loader *loader, const struct config_node *node);
bool config_expect_value(struct config_loader *loader, const struct config_node *node);

/* A list of strings, or one string instead. Appends to a list that is owned (free each, then it);
 * reports repeated and empty ones. */
void config_load_strings(struct config_loader *loader, const struct config_node *node,
                         char ***out_strings, size_t *out_count);

/* What a message may show of a value: itself in quotes, or "the value" when it came from outside.
 * Into CONFIG_QUOTED_SIZE bytes; returns `out`. */
enum { CONFIG_QUOTED_SIZE = 96 };
const char *config_quote(const struct config_node *node, char *out);

#endif
