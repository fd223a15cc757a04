/*
 * What is wrong with a configuration: all mistakes and warnings, in the order of the file.
 *
 * "FILE:LINE: path.to.key: sentence", "FILE:LINE: warning: path.to.key: sentence". A sentence never
 * holds a value that came from the environment or a file, nor one that is a secret.
 *
 * One thread.
 */
#ifndef BRIDGE_CONFIG_CONFIG_REPORT_H
#define BRIDGE_CONFIG_CONFIG_REPORT_H

#include <stddef.h>

struct buf;
struct config_node;
struct config_report_line;

struct config_report {
    const char *file; /* as given on the command line; borrowed */
    struct config_report_line *lines;
    size_t count;
    size_t capacity;
    size_t mistakes;
    size_t left_out; /* beyond the limit, or without memory */
};

void config_report_release(struct config_report *report);

/* `key` is a path below `node`, such as "kafka.topic", NULL for the node itself. The line is that
 * of the deepest node there is on the way. */
void config_report_mistake(struct config_report *report, const struct config_node *node,
                           const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void config_report_warning(struct config_report *report, const struct config_node *node,
                           const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A mistake of the file, not of a key. */
void config_report_line(struct config_report *report, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends all lines, sorted by line of the file. */
void config_report_print(struct config_report *report, struct buf *out);

#endif
