/*
 * The control endpoints that need a journal: dead letters, events and replays. Without one they
 * answer 409 no_journal.
 *
 * Threads: the daemon's.
 */
#ifndef BRIDGE_CONTROL_CONTROL_JOURNAL_H
#define BRIDGE_CONTROL_CONTROL_JOURNAL_H

struct clock;
struct config;
struct control;
struct control_journal; /* opaque: defined in control_journal.c */
struct dispatcher;
struct error;
struct journal;
struct metrics;

struct control_journal_options {
    struct control *control;
    struct journal *journal; /* NULL in broker mode */
    struct dispatcher *dispatcher;
    struct metrics *metrics;
    const struct clock *clock;
    /* The configuration in force, with a reference. Any thread. */
    const struct config *(*config)(void *context);
    void *config_context;
};

/* Adds the routes. Borrows everything. Returns owned (control_journal_free), NULL on failure. */
struct control_journal *control_journal_new(const struct control_journal_options *options,
                                            struct error *err);

/* Answers what waits: before the control server is freed. NULL is a no-op. */
void control_journal_stop(struct control_journal *self);

/* After it is freed. NULL is a no-op. */
void control_journal_free(struct control_journal *self);

#endif
