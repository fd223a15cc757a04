/*
 * Runs this program again, as a process of its own, with a deadline: for what may crash or hang on
 * damaged files. Never fork() without exec(): other threads may hold locks.
 *
 * Threads: any one.
 */
#ifndef BRIDGE_RUNTIME_CHILD_H
#define BRIDGE_RUNTIME_CHILD_H

#include <stdint.h>

#include "bridge/base/buf.h"

struct error;

struct child_result {
    int exit_code;     /* -1: it ended otherwise, and ... */
    int signal;        /* ... this killed it; 0: the deadline was over */
    struct buf output; /* what it printed, both ways, up to a bound; buf_release() */
};

/* `arguments` end with NULL; the first is the command. -1: it could not be started. */
int child_run(const char *const *arguments, int64_t timeout_ms, struct child_result *out_result,
              struct error *err);

#endif
