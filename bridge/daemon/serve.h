/*
 * The daemon: starts the parts in the order in which they depend on each other, waits for a signal,
 * and stops them in the opposite order, so that nothing that was accepted is left without a place.
 * SIGHUP reads the configuration again.
 */
#ifndef BRIDGE_DAEMON_SERVE_H
#define BRIDGE_DAEMON_SERVE_H

struct config;
struct error;

/*
 * Runs until SIGTERM or SIGINT. Borrows `config`. Returns the process's exit code: 0 after an
 * orderly end, else of sysexits.h with `err` set.
 */
int serve(const struct config *config, struct error *err);

#endif
