/*
 * The webhook listener: POST /webhooks/{account}, and the health path for load balancers.
 *
 * The order of checks is method and path, framing, size, signature, JSON, route: nothing of a body
 * is parsed or logged before its signature was verified.
 */
#ifndef BRIDGE_WEBHOOK_H
#define BRIDGE_WEBHOOK_H

#include <stdint.h>

struct clock;
struct config;
struct error;
struct intake;
struct metrics;
struct webhook; /* opaque: defined in webhook.c */

struct webhook_options {
    const struct config *config;
    struct intake *intake;
    struct metrics *metrics;
    const struct clock *clock;
    /* NULL when events can be accepted, else why not. Any thread. */
    const char *(*trouble)(void *context);
    void *context;
};

/* Starts listening. Borrows what `options` points to. Returns owned (webhook_stop). */
struct webhook *webhook_start(const struct webhook_options *options, struct error *err);

/* "127.0.0.1:8080" */
const char *webhook_address(const struct webhook *webhook);

/* Closes the listener; from now on requests on open connections are answered 503. */
void webhook_drain(struct webhook *webhook);

/* Waits at most `timeout_ms` for answers in flight, ends the threads. NULL is a no-op. */
void webhook_stop(struct webhook *webhook, int64_t timeout_ms);

#endif
