/*
 * Fetches from Close's Event Log what no webhook brought: the bridge or the network was away for
 * longer than Close retries, or Close paused the subscription and cleared its queue.
 *
 * Every account with credentials is read on a schedule (accounts[].catch_up), from the point that
 * the last run reached, with an overlap, up to what is too young to be final. A stretch of time can
 * be asked for besides. Events go the way of a webhook: topic map, dedupe, journal. A window of
 * time is handed over oldest first; once it is durable, the point reached is stored. Live events go
 * first: it waits while publishers lag.
 *
 * Times are Close's, by the clock that its answers show.
 *
 * Threads: one of its own; catch_up_note_gap() and catch_up_reconfigure() from any, the routes on
 * the control listener's thread, all else from the owner.
 */
#ifndef BRIDGE_CATCH_UP_CATCH_UP_H
#define BRIDGE_CATCH_UP_CATCH_UP_H

#include <stdint.h>

struct catch_up; /* opaque: defined in catch_up_internal.h */
struct clock;
struct config;
struct control;
struct dispatcher;
struct error;
struct journal;
struct metrics;

struct catch_up_options {
    const struct config *config; /* a reference of its own is taken */
    const struct clock *clock;   /* borrowed, like the rest */
    struct metrics *metrics;
    struct journal *journal; /* NULL in broker mode: the routes answer 409 no_journal */
    struct dispatcher *dispatcher;
};

/* Reads what is stored. Returns owned (catch_up_free), NULL on failure. */
struct catch_up *catch_up_open(const struct catch_up_options *options, struct error *err);

/* Before the control listener starts: GET, POST and DELETE /control/catch-up. */
void catch_up_add_routes(struct catch_up *self, struct control *control);

/* Starts the thread. After journal_start(). */
int catch_up_start(struct catch_up *self, struct error *err);

/* Another configuration, of which it takes a reference, in force before the next window. -1: the
 * old one stays. */
int catch_up_reconfigure(struct catch_up *self, const struct config *config, struct error *err);

/* Close may not have delivered events of this time (since 1970, by this machine's clock). */
void catch_up_note_gap(struct catch_up *self, const char *account, int64_t since_ms,
                       int64_t until_ms);

/* Answers what waits and joins the thread, which ends with the events that are on their way to the
 * journal. Before the listeners are freed and the journal is closed. NULL is a no-op. */
void catch_up_stop(struct catch_up *self);

/* After the control listener is freed. NULL is a no-op. */
void catch_up_free(struct catch_up *self);

#endif
