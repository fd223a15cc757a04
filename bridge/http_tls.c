#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http_internal.h"

/* h2o makes the SSL object from the context only when the first bytes arrive, so a context that was
 * replaced is kept for longer than a handshake may take. */
enum { KEEP_RETIRED_MS = 15 * 60 * 1000 };

struct retired {
    struct retired *next;
    SSL_CTX *context;
    int64_t since_ms;
};

struct http_tls {
    char *certificate;
    char *key;
    const struct clock *clock;
    pthread_mutex_t lock;
    SSL_CTX *current;        /* lock: lock */
    struct retired *retired; /* lock: lock */
};

static SSL_CTX *fail(SSL_CTX *context, struct error *err, const char *what, const char *path)
{
    char reason[160];

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    SSL_CTX_free(context);
    error_set(err, ERROR_CONFIG, "%s %s: %s", what, path, reason);
    return NULL;
}

static SSL_CTX *load(const struct http_tls *tls, struct error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (!context)
        return fail(NULL, err, "cannot set up TLS for", tls->certificate);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_security_level(context, 2);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(context, tls->certificate) != 1)
        return fail(context, err, "cannot use the certificate", tls->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, tls->key, SSL_FILETYPE_PEM) != 1)
        return fail(context, err, "cannot use the key", tls->key);
    if (SSL_CTX_check_private_key(context) != 1)
        return fail(context, err, "the key does not belong to the certificate", tls->certificate);
    return context;
}

struct http_tls *http_tls_new(const char *certificate, const char *key, const struct clock *clock,
                              struct error *err)
{
    struct http_tls *tls = alloc_zeroed(1, sizeof(*tls));

    tls->certificate = alloc_string(certificate);
    tls->key = alloc_string(key);
    tls->clock = clock;
    pthread_mutex_init(&tls->lock, NULL);
    tls->current = load(tls, err);
    if (!tls->current) {
        http_tls_free(tls);
        return NULL;
    }
    return tls;
}

static void free_retired(struct http_tls *tls, int64_t before_ms)
{
    struct retired **slot = &tls->retired;

    while (*slot) {
        struct retired *retired = *slot;

        if (retired->since_ms >= before_ms) {
            slot = &retired->next;
            continue;
        }
        *slot = retired->next;
        SSL_CTX_free(retired->context);
        free(retired);
    }
}

void http_tls_free(struct http_tls *tls)
{
    if (!tls)
        return;
    free_retired(tls, INT64_MAX);
    SSL_CTX_free(tls->current);
    pthread_mutex_destroy(&tls->lock);
    free(tls->certificate);
    free(tls->key);
    free(tls);
}

int http_tls_reload(struct http_tls *tls, struct error *err)
{
    SSL_CTX *context = load(tls, err);
    struct retired *retired;
    int64_t now_ms = clock_monotonic_ms(tls->clock);

    if (!context)
        return -1;
    retired = alloc_zeroed(1, sizeof(*retired));
    pthread_mutex_lock(&tls->lock);
    free_retired(tls, now_ms - KEEP_RETIRED_MS);
    *retired = (struct retired){tls->retired, tls->current, now_ms};
    tls->retired = retired;
    tls->current = context;
    pthread_mutex_unlock(&tls->lock);
    return 0;
}

SSL_CTX *http_tls_current(struct http_tls *tls)
{
    SSL_CTX *context;

    pthread_mutex_lock(&tls->lock);
    context = tls->current;
    pthread_mutex_unlock(&tls->lock);
    return context;
}

int64_t http_tls_expiry(struct http_tls *tls)
{
    const X509 *certificate;
    struct tm end = {0};
    int64_t seconds = 0;

    pthread_mutex_lock(&tls->lock);
    certificate = SSL_CTX_get0_certificate(tls->current);
    if (certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1)
        seconds = timegm(&end);
    pthread_mutex_unlock(&tls->lock);
    return seconds;
}
