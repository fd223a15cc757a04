/*
 * Query parameters of control requests, checked. Each function returns false when it has answered
 * the request itself, with 400 and a sentence that names the parameter.
 *
 * Threads: the listener's loop.
 */
#ifndef BRIDGE_CONTROL_CONTROL_QUERY_H
#define BRIDGE_CONTROL_CONTROL_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_request;

/* No other parameters than these; the list ends with NULL. A filter that is misspelt must not mean
 * everything. */
bool control_query_only(struct http_request *request, const char *const *names);

/* Leaves `out` alone without the parameter; terminated otherwise, and not empty: a filter whose
 * value got lost must not mean everything. */
bool control_query_text(struct http_request *request, const char *name, char *out, size_t capacity);

/* The parameter account: "" without it, which means all. An empty name is no account's, and
 * answered with 404: it must not mean all. */
bool control_query_account(struct http_request *request, char *out, size_t capacity);

/* A whole number of at least `min` and at most `max`; without the parameter `*out` stays. */
bool control_query_number(struct http_request *request, const char *name, uint64_t min,
                          uint64_t max, uint64_t *out);

/* true or false; without the parameter `*out` stays. */
bool control_query_bool(struct http_request *request, const char *name, bool *out);

/* A point in time as moment.h reads it, in milliseconds since 1970; without the parameter `*out_ms`
 * stays. */
bool control_query_since(struct http_request *request, const char *name, int64_t now_ms,
                         int64_t *out_ms);

#endif
