/*
 * What the two halves of the webhook handler share: webhook.c answers requests, webhook_state.c
 * prepares what each thread needs for it.
 */
#ifndef BRIDGE_WEBHOOK_WEBHOOK_INTERNAL_H
#define BRIDGE_WEBHOOK_WEBHOOK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/text.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/delivery.h"
#include "bridge/webhook/signature.h"
#include "bridge/webhook/webhook.h"

enum webhook_result {
    RESULT_ACCEPTED,
    RESULT_DUPLICATE,
    RESULT_IGNORED,
    RESULT_DEAD_LETTERED,
    RESULT_UNAVAILABLE,
    RESULT_MISSING_SIGNATURE,
    RESULT_MALFORMED_SIGNATURE,
    RESULT_BAD_SIGNATURE,
    RESULT_STALE,
    RESULT_NO_KEYS,
    RESULT_MALFORMED, /* framing */
    RESULT_TOO_LARGE,
    RESULT_HEADERS_TOO_LARGE,
    RESULT_UNSUPPORTED_ENCODING,
    RESULT_METHOD_NOT_ALLOWED,
    RESULT_NOT_FOUND,
    RESULT_COUNT
};

/* The series of one account; "" stands for requests that name no configured one. Lives as long as
 * the webhook, whatever the configuration becomes. */
struct webhook_counters {
    struct webhook_counters *next;
    char *account;
    struct metric *results[RESULT_COUNT];
    struct metric *last_event;          /* NULL for "" */
    _Atomic(struct metric *) *received; /* one for each pair of the catalog and one for the rest;
                                            NULL until the first event */
};

struct webhook_account {
    struct text name;
    struct webhook_counters *counters;
    struct signature_verifier *verifier;
};

/* What one thread needs of one configuration. */
struct webhook_state {
    const struct config *config; /* a reference */
    struct router *router;
    size_t account_count;
    struct webhook_account accounts[];
};

/* A delivery on its way. */
struct webhook_pending {
    struct http_deferred deferred;
    struct delivery delivery;
    struct webhook_worker *worker;
    struct webhook_counters *counters;
    struct webhook_pending *next; /* in the worker's list, oldest first, until answered */
    struct webhook_pending **slot;
    int64_t started_us;
};

/* One thread of the server. */
struct webhook_worker {
    struct webhook *webhook;
    struct event_parser *parser;
    struct webhook_state *state;
    _Atomic(struct webhook_state *) next_state; /* to be taken over by the thread */
    struct webhook_pending *oldest;
    struct webhook_pending **tail;
};

/* Keys of subscriptions, by account. */
struct webhook_keys {
    struct webhook_keys *next;
    char *account;
    size_t count;
    unsigned char (*keys)[SIGNATURE_KEY_SIZE];
};

struct webhook {
    struct webhook_options options;
    struct refusals *refusals;
    struct histogram *duration;
    struct metric *dead_letters;      /* bodies that are no events, kept; NULL: none are kept */
    struct metric *dead_total;        /* as many as there ever were; NULL too */
    struct webhook_counters *unknown; /* account "" */
    struct webhook_worker *workers;
    atomic_bool is_draining;
    pthread_mutex_t lock;
    const struct config *config;       /* lock: lock; a reference */
    struct webhook_keys *keys;         /* lock: lock */
    struct webhook_counters *counters; /* lock: lock */
};

const char *webhook_result_name(enum webhook_result result);

/* Takes over a state that was prepared for the worker. On its thread. */
void webhook_adopt_state(struct webhook_worker *worker);

/* The counter of received events for a pair. Any thread. */
struct metric *webhook_received_counter(struct webhook *webhook, struct webhook_counters *counters,
                                        struct text object_type, struct text action);

#endif
