/*
 * How a command that takes a while shows how far it is, on standard error: a bar that is drawn anew
 * on a terminal, a line now and then elsewhere, as on one with TERM=dumb. Plain ASCII, no colours.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_PROGRESS_H
#define BRIDGE_CLI_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct cli_progress {
    bool is_terminal;
    bool has_bar;         /* the cursor stands behind one */
    int64_t next_line_ms; /* monotonic */
};

void cli_progress_begin(struct cli_progress *progress, int64_t now_ms);

/* `text` says in words what is done of `total`; without control characters. */
void cli_progress_show(struct cli_progress *progress, uint64_t done, uint64_t total,
                       const char *text, int64_t now_ms);

/* Takes the bar away, so that something else can be printed. */
void cli_progress_clear(struct cli_progress *progress);

#endif
