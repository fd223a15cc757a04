/*
 * The control listener: health, readiness and metrics, on an address of its own, never on the
 * webhook listener.
 *
 * /healthz, /readyz and /metrics need no token; all else needs `Authorization: Bearer` when a token
 * is configured. Requests with an Origin header come from a browser and are refused.
 */
#ifndef BRIDGE_CONTROL_H
#define BRIDGE_CONTROL_H

#include <stdbool.h>

struct buf;
struct clock;
struct config;
struct control; /* opaque: defined in control.c */
struct error;
struct metrics;

struct control_options {
    const struct config *config;
    struct metrics *metrics;
    const struct clock *clock;
    /* Appends a JSON object that says which part is not ready; true when events can be accepted.
     * Any thread. */
    bool (*readiness)(void *context, struct buf *json);
    void *context;
};

/* Starts listening. Borrows what `options` points to. Returns owned (control_stop). */
struct control *control_start(const struct control_options *options, struct error *err);
const char *control_address(const struct control *control);
void control_stop(struct control *control);

#endif
