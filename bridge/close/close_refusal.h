/*
 * Why Close refused a request, as a sentence that says what to do.
 *
 * Pure functions, any thread.
 */
#ifndef BRIDGE_CLOSE_CLOSE_REFUSAL_H
#define BRIDGE_CLOSE_CLOSE_REFUSAL_H

#include <stdint.h>

#include "bridge/base/text.h"

struct buf;
struct close_access;
struct error;

struct close_refusal {
    const char *method;
    const char *path;
    int status;           /* not 2xx */
    struct text body;     /* JSON_PADDING readable bytes behind it */
    struct text location; /* of a redirect; absent: not said */
    int64_t wait_ms;      /* that Close asks for; -1: none */
    int attempts;
    const struct close_access *access; /* its URL is shown, its credentials never are */
};

/* Sets the error and returns -1. */
int close_refusal_set(const struct close_refusal *refusal, struct error *err);

/*
 * Appends what the body of an error says, in either of Close's shapes: {"error": "..."} or
 * {"errors": [...], "field-errors": {"field": "..."}}. One line without control characters, at most
 * CLOSE_REASON_MAX bytes; nothing when it says nothing. JSON_PADDING readable bytes must follow the
 * body.
 */
enum { CLOSE_REASON_MAX = 180 };
void close_refusal_reason(struct text body, struct buf *out);

#endif
