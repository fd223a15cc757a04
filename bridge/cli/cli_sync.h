/*
 * What the commands sync, unsubscribe and keys share.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_SYNC_H
#define BRIDGE_CLI_CLI_SYNC_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct buf;
struct config;
struct config_account;
struct error;

/* Prints the answer of POST /control/sync or DELETE /control/subscriptions as a person reads a
 * difference, and returns the exit code. JSON_PADDING readable bytes must follow the answer. */
int cli_sync_print(const char *command, struct text answer);

/* Appends the account's keys, stored and configured, as hex, one a line, the newest first. */
int cli_keys_list(const struct config *config, const struct config_account *account,
                  struct buf *out_lines, struct error *err);

/* Releases the lines, wiped. */
void cli_keys_wipe(struct buf *lines);

/* Opens `path`.new beside the file that is to be replaced, mode 0600. Returns a file descriptor. */
int cli_keys_begin(const char *path, struct error *err);

/* Writes the account's keys there and puts the file in its place, durably. Closes `fd`. */
int cli_keys_finish(int fd, const char *path, const struct config *config,
                    const struct config_account *account, struct error *err);

/* Prints which account is not there, and which may have been meant; NULL then. */
const struct config_account *cli_find_account(const char *command, const struct config *config,
                                              const char *name);

#endif
