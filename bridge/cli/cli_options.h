/*
 * The options of a command, as a table of what each of them sets.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_OPTIONS_H
#define BRIDGE_CLI_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Exactly one of `value`, `number` and `flag` says where it goes. */
struct cli_option {
    const char *name;   /* without its dashes; NULL ends a table */
    const char **value; /* borrows from the arguments */
    uint64_t *number;   /* a whole number from `min` to `max` */
    uint64_t min;
    uint64_t max;
    bool *flag;  /* set to true */
    char letter; /* the short form, if it has one */
};

/* -c, which names the configuration. */
#define CLI_OPTION_CONFIG(path)                                                                    \
    {                                                                                              \
        .name = "config", .value = (path), .letter = 'c'                                           \
    }

/* Most of the options that a table holds, and the NULL that ends it. */
enum { CLI_OPTIONS_MAX = 16 };

/*
 * Reads the options of `*argv` and moves both past them, to the arguments that are left. Returns
 * EX_OK, or EX_USAGE when it has said what is wrong and which option may have been meant.
 */
int cli_read_options(const char *command, const struct cli_option *options, int *argc,
                     char ***argv);

/* The same for a command that takes no arguments besides. */
int cli_read_only_options(const char *command, const struct cli_option *options, int argc,
                          char **argv);

/* Reads the moment that --`option` names (moment.h); `written` may be NULL, then `*out_ms` stays.
 * Returns EX_OK, or EX_USAGE when it has said what is wrong. */
int cli_read_moment(const char *command, const char *option, const char *written, int64_t *out_ms);

#endif
