#include "bridge/cli/cli_tls.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "bridge/base/error.h"
#include "bridge/config/config.h"

/* "sha256//", the digest in base64 and a terminator. */
enum { PIN_SIZE = 8 + 44 + 1 };

const char *cli_tls_scheme(const struct config *config)
{
    return config->control.tls.certificate ? "https" : "http";
}

/* The first certificate of the file: the one that the bridge shows. */
static X509 *read_certificate(const char *path, const char *setting, struct error *err)
{
    FILE *file = fopen(path, "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

    if (file)
        fclose(file);
    if (!certificate)
        error_set(err, ERROR_CONFIG,
                  "%s: %s cannot be read: commands need it to know the bridge by", setting, path);
    return certificate;
}

/* The digest of the certificate's public key, as curl takes it. */
static int make_pin(const X509 *certificate, char out_pin[PIN_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned char *key = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &key);
    int ok = size > 0 && EVP_Digest(key, (size_t)size, digest, NULL, EVP_sha256(), NULL) == 1;

    OPENSSL_free(key);
    if (!ok)
        return -1;
    snprintf(out_pin, PIN_SIZE, "sha256//");
    EVP_EncodeBlock((unsigned char *)out_pin + strlen(out_pin), digest, 32);
    return 0;
}

int cli_tls_pin(void *client, const char *certificate, const char *setting, struct error *err)
{
    X509 *read = read_certificate(certificate, setting, err);
    char pin[PIN_SIZE];
    int rc;

    if (!read)
        return -1;
    rc = make_pin(read, pin);
    X509_free(read);
    if (rc < 0)
        return error_set(err, ERROR_CONFIG, "%s: %s has no public key", setting, certificate);
    curl_easy_setopt(client, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(client, CURLOPT_PINNEDPUBLICKEY, pin);
    /* The pin is stricter than either. */
    curl_easy_setopt(client, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(client, CURLOPT_SSL_VERIFYHOST, 0L);
    return 0;
}

int cli_tls_set(void *client, const struct config *config, struct error *err)
{
    if (!config->control.tls.certificate)
        return 0;
    if (config->control.tls.client_ca && !config->control.client_certificate)
        return error_set(err, ERROR_CONFIG,
                         "the bridge wants a certificate of its clients: set "
                         "control.tls.client_certificate and client_key");
    if (cli_tls_pin(client, config->control.tls.certificate, "control.tls.certificate", err) < 0)
        return -1;
    if (config->control.client_certificate) {
        curl_easy_setopt(client, CURLOPT_SSLCERT, config->control.client_certificate);
        curl_easy_setopt(client, CURLOPT_SSLKEY, config->control.client_key);
    }
    return 0;
}

const char *cli_tls_hint(const struct config *config, int code)
{
    if (!config->control.tls.certificate)
        return NULL;
    switch (code) {
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return "it shows another certificate than control.tls.certificate: reload the bridge, or "
               "something else listens there";
    case CURLE_SSL_CERTPROBLEM:
        return "control.tls.client_certificate and client_key cannot be used together";
    case CURLE_SSL_CONNECT_ERROR:
        return "does it speak TLS?";
    case CURLE_RECV_ERROR:
        return "did it refuse control.tls.client_certificate?";
    default:
        return NULL;
    }
}
