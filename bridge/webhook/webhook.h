/*
 * The webhook listener's handler: POST /webhooks/{account}, and the health path for load balancers.
 *
 * The order of the checks is fixed: framing and size (http_server), path and method, encoding,
 * signature, and only then is anything read of the body. An authentic event that some entry of the
 * topic map takes is handed to the intake, and the answer waits for it; one that no entry takes is
 * answered "ignored"; an authentic body that is not an event is handed over as an opaque event.
 * 401 never says what was wrong; refusals.h does.
 *
 * Threads: the three callbacks run on the server's loops; everything else on any other thread.
 */
#ifndef BRIDGE_WEBHOOK_WEBHOOK_H
#define BRIDGE_WEBHOOK_WEBHOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/config.h"

struct buf;
struct clock;
struct error;
struct http_request;
struct intake;
struct metrics;
struct webhook; /* opaque: defined in webhook_internal.h */

struct webhook_options {
    const struct config *config; /* a reference of its own is taken */
    unsigned threads;            /* of the server */
    struct metrics *metrics;     /* borrowed, like the rest */
    struct intake *intake;
    const struct clock *clock;
    /* For the health path: whether events can be accepted. Any thread, must not block. */
    bool (*is_ready)(void *context);
    void *ready_context;
};

/* Returns owned (webhook_free, after http_server_free()), NULL on failure. */
struct webhook *webhook_new(const struct webhook_options *options, struct error *err);
void webhook_free(struct webhook *webhook);

/* For http_server_options: the struct webhook is the context. */
void webhook_handle(void *context, unsigned thread, struct http_request *request);
void webhook_refused(void *context, unsigned thread, const struct http_request *request, int status,
                     const char *why);
void webhook_tick(void *context, unsigned thread);

/* From now on every webhook is answered 503 and its connection closed. */
void webhook_drain(struct webhook *webhook);

/*
 * The keys of subscriptions that an account holds, beside those in its configuration. Copied. In
 * force with every thread's next tick or request. -1: nothing changed.
 */
int webhook_set_keys(struct webhook *webhook, const char *account,
                     const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t key_count,
                     struct error *err);

/* Exchanges the configuration, of which it takes a reference, and waits for the loops, which must
 * be running (or not yet started), to take it over. -1: the old one stays, or a loop hangs. */
int webhook_reconfigure(struct webhook *webhook, const struct config *config, struct error *err);

/* The JSON of GET /control/refusals. */
void webhook_render_refusals(struct webhook *webhook, struct buf *out);

#endif
