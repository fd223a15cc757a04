/*
 * How commands read the journal themselves, when no daemon runs that could be asked.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_STORE_H
#define BRIDGE_CLI_CLI_STORE_H

struct buf;
struct config;
struct journal;

/*
 * Opens the journal, after it was verified: LMDB does not check what it reads. Returns owned
 * (journal_close), or NULL and the exit code, when it has said why.
 */
struct journal *cli_open_journal(const char *command, const struct config *config,
                                 int *out_exit_code);

/* How a command gets an answer of the control listener. */
struct cli_question {
    const char *command;
    const char *method;
    const char *path; /* with its query */
    /* Does it with the journal when no daemon runs: appends the answer. Returns the exit code. */
    int (*without_daemon)(void *context, const struct config *config, struct buf *json);
    void *context;
};

/* Asks the daemon; when none runs, the journal. `out_json` is released by the caller and has
 * JSON_PADDING readable bytes behind it. Returns the exit code, when it has said why. */
int cli_ask(const struct cli_question *question, const struct config *config, struct buf *out_json);

#endif
