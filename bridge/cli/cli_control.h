/*
 * How commands ask the running daemon: one request to the control listener that the configuration
 * names, over its address or socket, with its token.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_CONTROL_H
#define BRIDGE_CLI_CLI_CONTROL_H

#include <stdint.h>

#include "bridge/base/buf.h"

struct config;

enum control_outcome {
    CONTROL_ANSWERED,
    CONTROL_NOBODY, /* nothing listens there: no daemon runs */
    CONTROL_FAILED, /* something is there, but no answer came */
};

struct control_answer {
    long status;
    struct buf body;   /* released by the caller; JSON_PADDING readable bytes behind it */
    char url[320];     /* whom it asked, for messages */
    char problem[448]; /* unless it answered */
};

/* `path` with its query. */
enum control_outcome cli_control_ask(const struct config *config, const char *method,
                                     const char *path, int64_t timeout_ms,
                                     struct control_answer *out_answer);

/* Appends a parameter to a path that may have some already; `value` is percent-encoded, NULL is no
 * parameter. */
void cli_control_append_parameter(struct buf *path, const char *name, const char *value);

/* Prints why the daemon refused (its answer is not 2xx) as `command`, and returns the exit code. */
int cli_control_refused(const char *command, const struct control_answer *answer);

#endif
