/*
 * The command line: one function per command, a table of them, and what they share.
 *
 * Exit codes follow sysexits.h: 64 usage, 65 bad data, 66 no such file, 69 unavailable, 77 no
 * permission, 78 configuration.
 */
#ifndef BRIDGE_CLI_CLI_H
#define BRIDGE_CLI_CLI_H

#include <stdbool.h>

struct config;

struct command {
    const char *name;
    const char *summary; /* one line for --help */
    const char *help;    /* the whole text of COMMAND --help */
    int (*run)(int argc, char **argv);
};

/* Runs what `argv` says. Returns the exit code of the process. */
int cli_main(int argc, char **argv);

/* The file named by -c, $CLOSE_BRIDGE_CONFIG or the default. */
const char *cli_config_path(const char *option);

/*
 * Loads a configuration, printing every mistake and warning to standard error. Returns owned
 * (config_free), or NULL and the exit code.
 */
struct config *cli_load_config(const char *path, int *out_exit_code);

/* Prints "close-bridge COMMAND: ...; see --help" and returns EX_USAGE. */
int cli_usage_error(const char *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Says which argument nobody takes. Returns EX_USAGE. */
int cli_extra_argument(const char *command, const char *argument);

extern const struct command cli_serve;
extern const struct command cli_check;
extern const struct command cli_send;
extern const struct command cli_status;
extern const struct command cli_sync;
extern const struct command cli_unsubscribe;
extern const struct command cli_keys;
extern const struct command cli_events;
extern const struct command cli_dead_letters;
extern const struct command cli_replay;
extern const struct command cli_catch_up;
extern const struct command cli_catalog;
extern const struct command cli_journal;
extern const struct command cli_topics;
extern const struct command cli_asyncapi;
extern const struct command cli_version;

#endif
