/*
 * Close's signature: hex HMAC-SHA256 over the timestamp header's text, directly followed by the raw
 * body, with the hex-decoded key (CLOSE.md section 1; developer.close.com/topics/webhooks).
 *
 * Threads: a verifier belongs to one thread. One keyed context per key, reused, because the
 * one-shot call of OpenSSL 3.0 is slow and contends between threads (TRAPS 4; openssl #17064).
 */
#ifndef BRIDGE_SIGNATURE_H
#define BRIDGE_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/config.h"

struct error;
struct verifier; /* opaque: defined in signature.c */

enum signature_result {
    SIGNATURE_OK,
    SIGNATURE_NO_KEYS,   /* the account has none */
    SIGNATURE_MISSING,   /* a header is missing or there more than once */
    SIGNATURE_MALFORMED, /* the hash is not 64 hex digits, or the timestamp not a number */
    SIGNATURE_WRONG,
    SIGNATURE_STALE, /* right, but the timestamp is outside the window */
};

/* Copies the keys. Returns owned (verifier_free, which wipes them). */
struct verifier *verifier_new(const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                              struct error *err);
void verifier_free(struct verifier *verifier);

/*
 * All keys are tried whichever fits. `window_ms` is the largest distance of the timestamp from
 * `now_ms` (wall clock), either way; 0 is off.
 */
enum signature_result verifier_check(struct verifier *verifier, struct text timestamp,
                                     struct text hash, struct text body, int64_t now_ms,
                                     int64_t window_ms);

/* Stable snake_case name, for logs and metrics. */
const char *signature_result_name(enum signature_result result);

/* Signs as Close does: writes 64 hex digits and a terminator. -1 when OpenSSL fails. */
int signature_make(const unsigned char key[SIGNATURE_KEY_SIZE], struct text timestamp,
                   struct text body, char out_hash[65]);

#endif
