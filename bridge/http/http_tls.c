#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http/http_internal.h"

/* h2o makes the SSL object from the context only when the first bytes arrive, so a context that was
 * replaced is kept for longer than a handshake may take. */
enum { KEEP_RETIRED_MS = 15 * 60 * 1000 };

struct retired {
    struct retired *next;
    SSL_CTX *context;
    int64_t since_ms;
};

struct http_tls {
    const struct clock *clock;
    pthread_mutex_t lock;
    SSL_CTX *current;        /* lock: lock; NULL: plain HTTP */
    struct retired *retired; /* lock: lock */
};

/* The opaque type is OpenSSL's own. */
static SSL_CTX *context_of(struct http_credentials *credentials)
{
    return (SSL_CTX *)(void *)credentials;
}

static int fail(struct error *err, const char *what, const char *path)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);

    if (ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    else if (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)
        reason = "it holds nothing of the kind in PEM";
    error_set(err, ERROR_CONFIG, "%s %s: %s", what, path, reason ? reason : "OpenSSL refuses it");
    ERR_clear_error();
    return -1;
}

static void set_options(SSL_CTX *context)
{
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_security_level(context, 2);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static int require_clients(SSL_CTX *context, const char *client_ca, struct error *err)
{
    STACK_OF(X509_NAME) * names;

    if (SSL_CTX_load_verify_file(context, client_ca) != 1)
        return fail(err, "cannot use the authorities", client_ca);
    names = SSL_load_client_CA_file(client_ca);
    if (!names)
        return fail(err, "cannot use the authorities", client_ca);
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int use_files(SSL_CTX *context, const struct http_tls_files *files, struct error *err)
{
    if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1)
        return fail(err, "cannot use the certificate", files->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1)
        return fail(err, "cannot use the key", files->key);
    if (SSL_CTX_check_private_key(context) != 1)
        return fail(err, "the key does not belong to the certificate", files->certificate);
    return files->client_ca ? require_clients(context, files->client_ca, err) : 0;
}

struct http_credentials *http_credentials_read(const struct http_tls_files *files,
                                               struct error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (!context) {
        fail(err, "cannot set up TLS for", files->certificate);
        return NULL;
    }
    set_options(context);
    if (use_files(context, files, err) == 0)
        return (struct http_credentials *)(void *)context;
    SSL_CTX_free(context);
    return NULL;
}

void http_credentials_free(struct http_credentials *credentials)
{
    SSL_CTX_free(context_of(credentials));
}

struct http_tls *http_tls_new(const struct clock *clock)
{
    struct http_tls *tls = alloc_zeroed(1, sizeof(*tls));

    tls->clock = clock;
    pthread_mutex_init(&tls->lock, NULL);
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
    free(tls);
}

static const X509 *certificate_of(const SSL_CTX *context)
{
    return context ? SSL_CTX_get0_certificate(context) : NULL;
}

static bool is_another(const X509 *a, const X509 *b)
{
    return (a || b) && (!a || !b || X509_cmp(a, b) != 0);
}

bool http_tls_use(struct http_tls *tls, struct http_credentials *credentials)
{
    SSL_CTX *context = context_of(credentials);
    struct retired *retired = alloc_zeroed(1, sizeof(*retired));
    int64_t now_ms = clock_monotonic_ms(tls->clock);
    bool has_changed;

    pthread_mutex_lock(&tls->lock);
    has_changed = is_another(certificate_of(tls->current), certificate_of(context));
    free_retired(tls, now_ms - KEEP_RETIRED_MS);
    *retired = (struct retired){tls->retired, tls->current, now_ms};
    tls->retired = retired;
    tls->current = context;
    pthread_mutex_unlock(&tls->lock);
    return has_changed;
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
    certificate = certificate_of(tls->current);
    if (certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1)
        seconds = timegm(&end);
    pthread_mutex_unlock(&tls->lock);
    return seconds;
}
