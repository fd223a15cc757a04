/*
 * The dispatcher: one thread that takes events from the journal (or, in broker mode, deliveries
 * from the listener) to the publishers and keeps account of what is settled.
 *
 * Threads: opened and closed by one thread; dispatcher_on_stored() is the journal's, the intake and
 * the state any thread's.
 */
#ifndef BRIDGE_DISPATCHER_DISPATCHER_H
#define BRIDGE_DISPATCHER_DISPATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct clock;
struct config;
struct dispatcher; /* opaque: defined in dispatcher_internal.h */
struct error;
struct event;
struct intake;
struct journal;
struct metrics;
struct outcomes;
struct replay;
struct retry_request;

struct dispatcher_options {
    const struct config *config;
    struct journal *journal; /* NULL in broker mode */
    const struct clock *clock;
    struct metrics *metrics;
};

/*
 * Opens the publishers (without waiting for their brokers) and finds every publisher's place in the
 * journal. Borrows everything but the configuration, of which it takes a reference. Returns owned
 * (dispatcher_close).
 */
struct dispatcher *dispatcher_open(const struct dispatcher_options *options, struct error *err);

/* Starts the thread. After journal_start(). */
int dispatcher_start(struct dispatcher *dispatcher, struct error *err);

/*
 * Exchanges the configuration, of which it takes a reference, while the thread runs. Returns 0 once
 * the new topic map is in force; publishers with other settings are exchanged after that, each once
 * the one before has settled what it had, within seconds. A publisher that is new gets a durable
 * place at the journal's end first; one that is gone keeps its place, and what waits for it, until
 * it comes back or is dropped. -1: nothing has changed. One thread at a time, which may have to
 * wait for a commit.
 */
int dispatcher_reconfigure(struct dispatcher *dispatcher, const struct config *config,
                           struct error *err);

/* For journal_start(). */
void dispatcher_on_stored(void *context, struct event *const *events, size_t count);

/* Broker mode: where deliveries go. Lives as long as the dispatcher. */
struct intake *dispatcher_intake(struct dispatcher *dispatcher);

/* Broker mode: NULL when deliveries can be taken, else why not. */
const char *dispatcher_trouble(const struct dispatcher *dispatcher);

/* How long the thread has been at the turn under way; 0 while it waits. Any thread. */
int64_t dispatcher_busy_ms(const struct dispatcher *dispatcher);

/* Of a publisher, an enum publisher_index, from any thread: whether it is configured; whether it is
 * not, and the journal keeps its place; whether its broker is unreachable, or `unknown` as long as
 * that is not known, as when it is not configured. */
bool dispatcher_is_configured(const struct dispatcher *dispatcher, int publisher);
bool dispatcher_is_removed(const struct dispatcher *dispatcher, int publisher);
bool dispatcher_is_down(const struct dispatcher *dispatcher, int publisher, bool unknown);

/* Any thread: everything up to `*out_seq` is settled for the publisher: delivered, parked or dead.
 * False: it is not configured. */
bool dispatcher_settled(const struct dispatcher *dispatcher, int publisher, uint64_t *out_seq);

/* Where its latest records went; NULL without a journal. Lives as long as the dispatcher. */
struct outcomes *dispatcher_outcomes(const struct dispatcher *dispatcher, int publisher);

/* Sends dead letters again: see retries_ask(). With a journal only. Any thread. */
void dispatcher_retry(struct dispatcher *dispatcher, struct retry_request *request);

/* To ask for a replay, as replay.h has it; NULL in broker mode. Lives as long as the dispatcher. */
struct replay *dispatcher_replay(const struct dispatcher *dispatcher);

/*
 * Takes nothing new, waits until what is on its way is settled and the cursors are durable, at most
 * `timeout_ms`, and ends the thread. False when something was left, which the journal publishes at
 * the next start.
 */
bool dispatcher_stop(struct dispatcher *dispatcher, int64_t timeout_ms);

/* After dispatcher_stop() and, with a journal, after journal_close(). NULL is a no-op. */
void dispatcher_close(struct dispatcher *dispatcher);

#endif
