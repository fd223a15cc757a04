/*
 * The daemon's two listeners: the one for webhooks, and the control listener with its routes. Each
 * says in the log where it is, and in a metric when its certificate ends.
 *
 * Ownership: servers and handlers of the control listener belong to the struct listeners.
 * Threads: the one that starts and stops the daemon.
 */
#ifndef BRIDGE_DAEMON_LISTENERS_H
#define BRIDGE_DAEMON_LISTENERS_H

#include <stdint.h>

struct catch_up;
struct clock;
struct config;
struct control;
struct control_journal;
struct dispatcher;
struct error;
struct http_server;
struct journal;
struct metrics;
struct reload;
struct status;
struct subscriptions;
struct webhook;

/* Of whom they tell, and whom they hand requests to. */
struct listeners_parts {
    const struct config *config; /* of the start */
    const struct clock *clock;
    struct metrics *metrics;
    struct journal *journal; /* NULL in broker mode */
    struct dispatcher *dispatcher;
    struct webhook *webhook;
    struct subscriptions *subscriptions;
    struct catch_up *catch_up;
    struct reload *reload;
    struct status *status;
};

/* One that is open, for the metric of its certificate. */
struct listener {
    const char *name;
    struct http_server *server;
    struct metrics *metrics;
};

/* Begins zeroed; may be closed at any time. */
struct listeners {
    struct listener webhook;
    struct listener control;
    struct control *control_handler;
    struct control_journal *control_journal;
};

/* Opens both, the one for webhooks last. Borrows the parts until both are closed. Whatever happens,
 * both listeners_close_ functions follow. */
int listeners_open(struct listeners *listeners, const struct listeners_parts *parts,
                   struct error *err);

/* Accepts no more connections for webhooks, and waits for the answers under way. */
void listeners_drain_webhooks(struct listeners *listeners, int64_t timeout_ms);

void listeners_close_control(struct listeners *listeners);
void listeners_close_webhooks(struct listeners *listeners);

#endif
