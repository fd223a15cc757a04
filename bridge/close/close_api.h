/*
 * Asks Close's REST API, one request at a time, and waits for the answer.
 *
 * https only, plain http to this machine; certificates are verified; redirects are not followed, so
 * that the API key goes to the configured host alone. Every call is bounded in time and the answer
 * in size. What may be sent twice (GET, PUT, DELETE; anything after a 429 or before a connection
 * stood) is tried again with back-off and jitter; RateLimit and Retry-After are obeyed.
 *
 * Errors say what to do: ERROR_CONFIG the operator has to act (key, role, plan, URL), ERROR_INPUT
 * Close refuses this request, ERROR_TRANSIENT it may succeed later. No error holds a credential.
 *
 * Threads: an object belongs to one thread, but for close_api_interrupt().
 */
#ifndef BRIDGE_CLOSE_CLOSE_API_H
#define BRIDGE_CLOSE_CLOSE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"

struct clock;
struct close_api; /* opaque: defined in close_api.c */
struct error;
struct metrics;

struct close_api_options {
    const struct clock *clock; /* borrowed, like the metrics */
    struct metrics *metrics;   /* NULL: nothing is counted */
    /* 0 gives the value in brackets. */
    int64_t connect_timeout_ms; /* [10 s] */
    int64_t answer_timeout_ms;  /* of one attempt [30 s] */
    int64_t call_timeout_ms;    /* of all attempts and the pauses between them [90 s] */
    int64_t first_pause_ms;     /* doubled with each attempt [1 s] */
    int max_attempts;           /* [5] */
    size_t max_body;            /* of an answer [32 MiB] */
};

/* Whom to ask, and in whose name. The strings are borrowed for the call. */
struct close_access {
    const char *url;         /* as account.api_url: no slash at its end */
    const char *api_key;     /* NULL with a token */
    const char *oauth_token; /* NULL with a key */
    int64_t not_before_ms;   /* private, monotonic; begins as 0 */
};

enum close_method { CLOSE_GET, CLOSE_POST, CLOSE_PUT, CLOSE_DELETE };

struct close_request {
    enum close_method method;
    const char *path; /* below the URL, with its query: "/webhook/" */
    struct text body; /* JSON; absent for none */
};

/* JSON_PADDING readable bytes follow the body. It may hold a signature key: the release wipes it.
 */
struct close_answer {
    int status;        /* 0: none came */
    bool is_too_large; /* none came because it is larger than max_body */
    struct buf body;
};

/* Returns owned (close_api_free), NULL on failure. */
struct close_api *close_api_new(const struct close_api_options *options, struct error *err);
void close_api_free(struct close_api *api);

/*
 * 0 when Close answered 2xx. -1 otherwise; status and body are those of the last attempt then, for
 * callers that know what a 404 means. `out_answer` is released with close_answer_release() either
 * way.
 */
int close_api_ask(struct close_api *api, struct close_access *access,
                  const struct close_request *request, struct close_answer *out_answer,
                  struct error *err);

void close_answer_release(struct close_answer *answer);

/* Bounds the calls that follow; 0: as in the options. */
void close_api_limit_calls(struct close_api *api, int64_t timeout_ms);

/* From any thread: the call that is under way, its pauses included, and all later ones fail at
 * once. */
void close_api_interrupt(struct close_api *api);

/* Ends an interruption for last calls, none of which goes on beyond the given monotonic time. */
void close_api_finish_by(struct close_api *api, int64_t end_ms);

/* How far this machine's clock is ahead of Close's, by the last answer. False: none had a date. */
bool close_api_clock_skew_ms(const struct close_api *api, int64_t *out_ms);

#endif
