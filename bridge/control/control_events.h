/*
 * The control endpoint that says where events are: GET /control/events.
 *
 * Threads: made and freed by the daemon's; the handler runs on the control listener's loop.
 */
#ifndef BRIDGE_CONTROL_CONTROL_EVENTS_H
#define BRIDGE_CONTROL_CONTROL_EVENTS_H

struct clock;
struct config;
struct control;
struct control_events; /* opaque: defined in control_events.c */
struct control_worker;
struct dispatcher;
struct error;
struct journal;

struct control_events_options {
    struct control *control;
    struct control_worker *worker;
    struct journal *journal;
    struct dispatcher *dispatcher;
    const struct clock *clock;
    /* The configuration in force, with a reference. Any thread. */
    const struct config *(*config)(void *context);
    void *config_context;
};

/* Adds the route. Borrows everything. Returns owned (control_events_free), NULL on failure. */
struct control_events *control_events_new(const struct control_events_options *options,
                                          struct error *err);

/* After the control server and the worker have ended. NULL is a no-op. */
void control_events_free(struct control_events *events);

#endif
