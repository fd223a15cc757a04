/*
 * The control endpoints for dead letters: list, show, retry, drop.
 *
 * Threads: made and freed by the daemon's; the handlers run on the control listener's loop.
 */
#ifndef BRIDGE_CONTROL_CONTROL_LETTERS_H
#define BRIDGE_CONTROL_CONTROL_LETTERS_H

struct control;
struct control_letters; /* opaque: defined in control_letters.c */
struct control_worker;
struct dispatcher;
struct error;
struct journal;
struct metrics;

struct control_letters_options {
    struct control *control;
    struct control_worker *worker;
    struct journal *journal;
    struct dispatcher *dispatcher;
    struct metrics *metrics;
};

/* Adds the routes. Borrows everything. Returns owned (control_letters_free), NULL on failure. */
struct control_letters *control_letters_new(const struct control_letters_options *options,
                                            struct error *err);

/* After the control server and the worker have ended. NULL is a no-op. */
void control_letters_free(struct control_letters *letters);

#endif
