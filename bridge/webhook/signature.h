/*
 * Close's signature: close-sig-hash is the hex HMAC-SHA256 of close-sig-timestamp followed by the
 * raw body, keyed with the hex-decoded signature key of the subscription (Close's documents,
 * "Webhooks", "Signatures").
 *
 * Every key of the account is tried, in the same time whichever of them is right, and compared in
 * constant time. A key is prepared once: making a MAC context anew costs more than the hash of a
 * small body (TRAPS, section 4).
 *
 * Ownership: a verifier copies its keys and wipes them when it is freed.
 * Threads: a verifier belongs to one thread.
 */
#ifndef BRIDGE_WEBHOOK_SIGNATURE_H
#define BRIDGE_WEBHOOK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/config/config.h"

struct error;
struct signature_verifier; /* opaque: defined in signature.c */

enum signature_result {
    SIGNATURE_OK,
    SIGNATURE_MISSING,   /* a header is not there, or there more than once */
    SIGNATURE_MALFORMED, /* not 64 hex digits, not 1 to 12 decimal digits */
    SIGNATURE_BAD,       /* made with none of the keys */
    SIGNATURE_STALE,     /* authentic, but outside the replay window */
    SIGNATURE_NO_KEYS,   /* the account has none yet */
    SIGNATURE_UNCHECKED, /* it could not be computed: no memory. Nothing is known of the request */
};

/* `hash` and `timestamp` are values of headers: absent (data NULL) when the header is not there
 * exactly once. */
struct signature_claim {
    struct text hash;
    struct text timestamp;
};

/* `replay_window_ms`: the largest age of a timestamp, either way; 0 = any. Returns owned
 * (signature_verifier_free), NULL on failure. */
struct signature_verifier *signature_verifier_new(const unsigned char (*keys)[SIGNATURE_KEY_SIZE],
                                                  size_t key_count, int64_t replay_window_ms,
                                                  struct error *err);
void signature_verifier_free(struct signature_verifier *verifier);

enum signature_result signature_verify(struct signature_verifier *verifier,
                                       const struct signature_claim *claim, struct text body,
                                       int64_t now_ms);

/* Writes the hash that `key` gives, 64 hex digits and a terminator, for whoever sends test events.
 */
int signature_sign(const unsigned char key[SIGNATURE_KEY_SIZE], struct text timestamp,
                   struct text body, char out_hash[65], struct error *err);

const char *signature_result_name(enum signature_result result);

#endif
