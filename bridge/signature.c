#include "bridge/signature.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "bridge/base/error.h"

enum { HASH_SIZE = 32, MAX_TIMESTAMP = 12 };

struct verifier {
    EVP_MAC *mac;
    size_t count;
    EVP_MAC_CTX *contexts[]; /* one per key, keyed */
};

static EVP_MAC_CTX *keyed_context(EVP_MAC *mac, const unsigned char *key)
{
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);

    if (context && EVP_MAC_init(context, key, SIGNATURE_KEY_SIZE, parameters) == 1)
        return context;
    EVP_MAC_CTX_free(context);
    return NULL;
}

struct verifier *verifier_new(const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                              struct error *err)
{
    struct verifier *verifier = calloc(1, sizeof(*verifier) + count * sizeof(EVP_MAC_CTX *));

    if (!verifier)
        goto fail;
    verifier->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (!verifier->mac)
        goto fail;
    for (; verifier->count < count; verifier->count++) {
        verifier->contexts[verifier->count] = keyed_context(verifier->mac, keys[verifier->count]);
        if (!verifier->contexts[verifier->count])
            goto fail;
    }
    return verifier;

fail:
    error_set(err, ERROR_FATAL, "OpenSSL gives no HMAC-SHA256");
    verifier_free(verifier);
    return NULL;
}

void verifier_free(struct verifier *verifier)
{
    if (!verifier)
        return;
    for (size_t i = 0; i < verifier->count; i++)
        EVP_MAC_CTX_free(verifier->contexts[i]); /* wipes the key */
    EVP_MAC_free(verifier->mac);
    free(verifier);
}

static int compute(EVP_MAC_CTX *context, struct text timestamp, struct text body,
                   unsigned char out[HASH_SIZE])
{
    size_t size;

    /* No key: the context keeps the one it has (from OpenSSL 3.0.3 on, #17811). */
    if (EVP_MAC_init(context, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(context, (const unsigned char *)timestamp.data, timestamp.size) != 1 ||
        EVP_MAC_update(context, (const unsigned char *)body.data, body.size) != 1 ||
        EVP_MAC_final(context, out, &size, HASH_SIZE) != 1)
        return -1;
    return 0;
}

static bool any_key_fits(struct verifier *verifier, struct text timestamp, struct text body,
                         const unsigned char hash[HASH_SIZE])
{
    unsigned char computed[HASH_SIZE];
    int fits = 0;

    for (size_t i = 0; i < verifier->count; i++)
        fits |= compute(verifier->contexts[i], timestamp, body, computed) == 0 &&
                CRYPTO_memcmp(computed, hash, HASH_SIZE) == 0;
    OPENSSL_cleanse(computed, sizeof(computed));
    return fits;
}

enum signature_result verifier_check(struct verifier *verifier, struct text timestamp,
                                     struct text hash, struct text body, int64_t now_ms,
                                     int64_t window_ms)
{
    unsigned char decoded[HASH_SIZE];
    uint64_t seconds;
    int64_t age_ms;

    if (verifier->count == 0)
        return SIGNATURE_NO_KEYS;
    if (!timestamp.data || !hash.data)
        return SIGNATURE_MISSING;
    if (timestamp.size > MAX_TIMESTAMP || !text_to_u64(timestamp, &seconds) ||
        !text_from_hex(hash, decoded, HASH_SIZE))
        return SIGNATURE_MALFORMED;
    if (!any_key_fits(verifier, timestamp, body, decoded))
        return SIGNATURE_WRONG;
    age_ms = now_ms - (int64_t)seconds * 1000;
    if (window_ms > 0 && (age_ms > window_ms || age_ms < -window_ms))
        return SIGNATURE_STALE;
    return SIGNATURE_OK;
}

const char *signature_result_name(enum signature_result result)
{
    switch (result) {
    case SIGNATURE_OK:
        return "ok";
    case SIGNATURE_NO_KEYS:
        return "no_keys";
    case SIGNATURE_MISSING:
        return "missing_signature";
    case SIGNATURE_MALFORMED:
        return "malformed_signature";
    case SIGNATURE_WRONG:
        return "bad_signature";
    case SIGNATURE_STALE:
        return "stale";
    }
    return "unknown";
}

int signature_make(const unsigned char key[SIGNATURE_KEY_SIZE], struct text timestamp,
                   struct text body, char out_hash[65])
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac ? keyed_context(mac, key) : NULL;
    unsigned char hash[HASH_SIZE];
    int rc = context ? compute(context, timestamp, body, hash) : -1;

    if (rc == 0)
        text_to_hex(hash, sizeof(hash), out_hash);
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    return rc;
}
