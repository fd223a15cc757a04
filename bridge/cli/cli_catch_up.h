/*
 * How the command catch-up shows how far the running bridge is.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_CATCH_UP_H
#define BRIDGE_CLI_CLI_CATCH_UP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct cli_progress;

/* A task that this command asked for. */
struct cli_task {
    uint64_t id;
    unsigned failing; /* looks in a row at which its account could not be read */
    bool is_done;
    bool has_failed;  /* it does not go on by itself */
    char account[66]; /* with its terminator */
};

enum { CLI_TASK_PATIENCE = 60 }; /* looks, until a failing account counts as a failure */

/* Prints GET /control/catch-up for people. */
int cli_catch_up_print(const char *command, struct text answer);

/* Finds the tasks in the answer and marks those that are done or failed, which it prints. -1: the
 * answer is none. */
int cli_catch_up_look(const char *command, struct text answer, struct cli_task *tasks,
                      size_t count);

/* Shows how far the tasks are, and what they wait for. */
void cli_catch_up_show(struct cli_progress *progress, struct text answer,
                       const struct cli_task *tasks, size_t count, int64_t now_ms);

#endif
