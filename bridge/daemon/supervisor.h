/*
 * Tells the service manager how the bridge is, in systemd's protocol (sd_notify(3)): datagrams of
 * NAME=value lines to the Unix socket that NOTIFY_SOCKET names. Without that variable nobody is
 * told.
 *
 *   READY=1       events are accepted; again after each reload
 *   RELOADING=1   the configuration is read again
 *   WATCHDOG=1    four times in WATCHDOG_USEC, while what makes events durable gets on with it
 *   STOPPING=1    a stop has begun; the heartbeat ends with it
 *   STATUS=       the same for people
 *
 * A process that hangs, and so is silent, is started anew.
 *
 * Threads: one of its own for the heartbeat, when WATCHDOG_USEC is set. supervisor_reloading() and
 * supervisor_reloaded() from the thread that reloads; the rest belongs to the thread that opened
 * it.
 */
#ifndef BRIDGE_DAEMON_SUPERVISOR_H
#define BRIDGE_DAEMON_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct error;
struct supervisor; /* opaque: defined in supervisor.c */

/* Reads the environment. Borrows `clock`. Returns owned (supervisor_free), NULL on failure. */
struct supervisor *supervisor_open(const struct clock *clock, struct error *err);

/*
 * Says that the start is over and begins the heartbeat. `busy_ms` says how long the slowest step
 * under way has taken; with half of WATCHDOG_USEC or more the heartbeat pauses. It is called on the
 * heartbeat's thread until supervisor_stopping().
 */
int supervisor_ready(struct supervisor *supervisor, int64_t (*busy_ms)(void *context),
                     void *context, struct error *err);

void supervisor_reloading(struct supervisor *supervisor);
void supervisor_reloaded(struct supervisor *supervisor, bool is_good);

/* Says that a stop has begun and ends the heartbeat. Also before supervisor_ready(). */
void supervisor_stopping(struct supervisor *supervisor);

/* NULL is a no-op. */
void supervisor_free(struct supervisor *supervisor);

#endif
