#include "bridge/webhook/signature.h"

#include <stdbool.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "bridge/base/error.h"

enum { HASH_SIZE = 32, TIMESTAMP_DIGITS = 12 };

struct signature_verifier {
    int64_t replay_window_ms;
    size_t key_count;
    EVP_MAC_CTX *keyed[]; /* OpenSSL wipes the key in a context when it is freed */
};

/* A context that holds the key, so that each use only starts over (OpenSSL 3.0.3 and later). */
static EVP_MAC_CTX *keyed_context(EVP_MAC *mac, const unsigned char *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);

    if (context && EVP_MAC_init(context, key, SIGNATURE_KEY_SIZE, params) != 1) {
        EVP_MAC_CTX_free(context);
        context = NULL;
    }
    return context;
}

struct signature_verifier *signature_verifier_new(const unsigned char (*keys)[SIGNATURE_KEY_SIZE],
                                                  size_t key_count, int64_t replay_window_ms,
                                                  struct error *err)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    struct signature_verifier *verifier =
        calloc(1, sizeof(*verifier) + key_count * sizeof(EVP_MAC_CTX *));

    if (!mac || !verifier)
        goto fail;
    verifier->replay_window_ms = replay_window_ms;
    for (size_t i = 0; i < key_count; i++) {
        verifier->keyed[i] = keyed_context(mac, keys[i]);
        if (!verifier->keyed[i])
            goto fail;
        verifier->key_count++;
    }
    EVP_MAC_free(mac);
    return verifier;

fail:
    EVP_MAC_free(mac);
    signature_verifier_free(verifier);
    error_set(err, ERROR_FATAL, "cannot prepare HMAC-SHA256: OpenSSL refuses or no memory");
    return NULL;
}

void signature_verifier_free(struct signature_verifier *verifier)
{
    if (!verifier)
        return;
    for (size_t i = 0; i < verifier->key_count; i++)
        EVP_MAC_CTX_free(verifier->keyed[i]);
    free(verifier);
}

/* Starts over with the key that the context already holds. */
static bool hash_with(EVP_MAC_CTX *context, struct text timestamp, struct text body,
                      unsigned char out_hash[HASH_SIZE])
{
    size_t size;

    return EVP_MAC_init(context, NULL, 0, NULL) == 1 &&
           EVP_MAC_update(context, (const unsigned char *)timestamp.data, timestamp.size) == 1 &&
           EVP_MAC_update(context, (const unsigned char *)body.data, body.size) == 1 &&
           EVP_MAC_final(context, out_hash, &size, HASH_SIZE) == 1 && size == HASH_SIZE;
}

static enum signature_result try_keys(struct signature_verifier *verifier, struct text timestamp,
                                      struct text body, const unsigned char claimed[HASH_SIZE])
{
    unsigned matches = 0;
    bool all_tried = true;

    for (size_t i = 0; i < verifier->key_count; i++) {
        unsigned char hash[HASH_SIZE];

        if (hash_with(verifier->keyed[i], timestamp, body, hash))
            matches |= CRYPTO_memcmp(hash, claimed, HASH_SIZE) == 0;
        else
            all_tried = false;
    }
    if (matches)
        return SIGNATURE_OK;
    return all_tried ? SIGNATURE_BAD : SIGNATURE_UNCHECKED;
}

static bool is_stale(const struct signature_verifier *verifier, uint64_t seconds, int64_t now_ms)
{
    /* 12 digits of seconds: the product stays below 2^63. */
    int64_t age_ms = now_ms - (int64_t)seconds * 1000;

    if (verifier->replay_window_ms == 0)
        return false;
    return age_ms > verifier->replay_window_ms || age_ms < -verifier->replay_window_ms;
}

enum signature_result signature_verify(struct signature_verifier *verifier,
                                       const struct signature_claim *claim, struct text body,
                                       int64_t now_ms)
{
    unsigned char claimed[HASH_SIZE];
    enum signature_result result;
    uint64_t seconds;

    if (!claim->hash.data || !claim->timestamp.data)
        return SIGNATURE_MISSING;
    if (!text_from_hex(claim->hash, claimed, HASH_SIZE) ||
        claim->timestamp.size > TIMESTAMP_DIGITS || !text_to_u64(claim->timestamp, &seconds))
        return SIGNATURE_MALFORMED;
    if (verifier->key_count == 0)
        return SIGNATURE_NO_KEYS;
    result = try_keys(verifier, claim->timestamp, body, claimed);
    return result == SIGNATURE_OK && is_stale(verifier, seconds, now_ms) ? SIGNATURE_STALE : result;
}

int signature_sign(const unsigned char key[SIGNATURE_KEY_SIZE], struct text timestamp,
                   struct text body, char out_hash[65], struct error *err)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac ? keyed_context(mac, key) : NULL;
    unsigned char hash[HASH_SIZE];
    bool is_done = context && hash_with(context, timestamp, body, hash);

    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    if (!is_done)
        return error_set(err, ERROR_FATAL, "cannot compute HMAC-SHA256: OpenSSL refuses");
    text_to_hex(hash, HASH_SIZE, out_hash);
    return 0;
}

const char *signature_result_name(enum signature_result result)
{
    static const char *const names[] = {
        [SIGNATURE_OK] = "ok",
        [SIGNATURE_MISSING] = "missing_signature",
        [SIGNATURE_MALFORMED] = "malformed_signature",
        [SIGNATURE_BAD] = "bad_signature",
        [SIGNATURE_STALE] = "stale",
        [SIGNATURE_NO_KEYS] = "no_keys",
        [SIGNATURE_UNCHECKED] = "unchecked",
    };

    return names[result];
}
