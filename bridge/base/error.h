/*
 * Errors: a kind that tells the program what to do, a sentence that tells the operator.
 *
 * An error is a plain value owned by the caller. Functions fill it on failure only.
 */
#ifndef BRIDGE_BASE_ERROR_H
#define BRIDGE_BASE_ERROR_H

enum error_kind {
    ERROR_NONE = 0,
    ERROR_CONFIG,    /* the operator must edit the file */
    ERROR_INPUT,     /* the sender's fault: answer 4xx, never retry */
    ERROR_IN_USE,    /* another process has it: a journal, a port */
    ERROR_TRANSIENT, /* retry with back-off */
    ERROR_FATAL,     /* this cannot go on: no memory, a bug; a full disk is ERROR_TRANSIENT */
};

struct error {
    enum error_kind kind;
    char message[400]; /* one line, safe to log: no secrets, no payload */
};

/* Both return -1, so that a failing function ends in `return error_set(...)`. `err` may be NULL. */
int error_set(struct error *err, enum error_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<context>: " before the message. */
int error_context(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
