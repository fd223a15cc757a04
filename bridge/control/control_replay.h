/*
 * The control endpoint for replays: start one, see how it goes, stop it.
 *
 * Threads: made and freed by the daemon's; the handlers run on the control listener's loop, the
 * search for where to begin on the worker.
 */
#ifndef BRIDGE_CONTROL_CONTROL_REPLAY_H
#define BRIDGE_CONTROL_CONTROL_REPLAY_H

struct clock;
struct control;
struct control_replay; /* opaque: defined in control_replay.c */
struct control_worker;
struct dispatcher;
struct error;
struct journal;

struct control_replay_options {
    struct control *control;
    struct control_worker *worker;
    struct journal *journal;
    struct dispatcher *dispatcher;
    const struct clock *clock;
};

/* Adds the routes. Borrows everything. Returns owned (control_replay_free), NULL on failure. */
struct control_replay *control_replay_new(const struct control_replay_options *options,
                                          struct error *err);

/* After the control server and the worker have ended. NULL is a no-op. */
void control_replay_free(struct control_replay *control);

#endif
