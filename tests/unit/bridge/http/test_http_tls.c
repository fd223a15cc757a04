#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http/http_server.h"
#include "tests/support/http_probe.h"

static char folder[64];
static char certificate_path[96];
static char key_path[96];
static struct http_server *server;

/* A self-signed certificate that is told apart by its serial number. */
static void write_pair(long serial)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    FILE *file;

    assert_non_null(key);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    file = fopen(certificate_path, "w");
    assert_non_null(file);
    PEM_write_X509(file, certificate);
    fclose(file);
    file = fopen(key_path, "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void handle(void *context, unsigned thread, struct http_request *request)
{
    char body[32];

    (void)context;
    (void)thread;
    snprintf(body, sizeof(body), "%zu", http_request_body(request).size);
    http_respond(request, &(struct http_response){.status = 200, .body = text_of(body)});
}

static struct http_server_options defaults(void)
{
    return (struct http_server_options){
        .name = "tls",
        .host = "127.0.0.1",
        .tls = {certificate_path, key_path, NULL},
        .threads = 1,
        .max_body = 1 << 20,
        .clock = &clock_system,
        .handle = handle,
    };
}

static int set_up_with(int64_t request_timeout_ms)
{
    struct http_server_options options = defaults();
    struct error err = {0};

    snprintf(folder, sizeof(folder), "/tmp/http-tls-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(certificate_path, sizeof(certificate_path), "%s/cert.pem", folder);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
    write_pair(1);
    options.request_timeout_ms = request_timeout_ms;
    server = http_server_start(&options, &err);
    return server ? 0 : -1;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(0); /* the server's own */
}

static int set_up_impatient(void **state)
{
    (void)state;
    return set_up_with(2000);
}

static int tear_down(void **state)
{
    (void)state;
    http_server_free(server);
    unlink(certificate_path);
    unlink(key_path);
    return rmdir(folder);
}

struct client {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

/* False when the handshake fails. */
static bool client_connect(struct client *client, int version)
{
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(client->context, 0);
    SSL_CTX_set_min_proto_version(client->context, version);
    SSL_CTX_set_max_proto_version(client->context, version);
    client->ssl = SSL_new(client->context);
    client->fd = probe_connect(http_server_port(server));
    SSL_set_fd(client->ssl, client->fd);
    return SSL_connect(client->ssl) == 1;
}

static void client_close(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    close(client->fd);
}

static long client_serial(const struct client *client)
{
    X509 *certificate = SSL_get1_peer_certificate(client->ssl);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));

    X509_free(certificate);
    return serial;
}

static void client_post(struct client *client, size_t size)
{
    char *request = calloc(1, size + 200);
    char answer[1024] = {0};
    char expected[32];
    size_t received = 0;
    size_t at;

    assert_non_null(request);
    at =
        (size_t)sprintf(request, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", size);
    assert_int_equal(SSL_write(client->ssl, request, (int)(at + size)), (int)(at + size));
    snprintf(expected, sizeof(expected), "\r\n\r\n%zu", size);
    while (!strstr(answer, expected)) {
        int n = SSL_read(client->ssl, answer + received, (int)(sizeof(answer) - 1 - received));

        assert_true(n > 0);
        received += (size_t)n;
    }
    assert_int_equal(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
    free(request);
}

static void modern_versions_are_spoken(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct client client;

        assert_true(client_connect(&client, versions[i]));
        client_post(&client, 3);
        client_post(&client, 500000); /* many records */
        client_post(&client, 0);
        client_close(&client);
    }
}

static void old_versions_are_refused(void **state)
{
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct client client;

        assert_false(client_connect(&client, versions[i]));
        client_close(&client);
    }
}

static void there_are_no_tickets_and_no_http2(void **state)
{
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    const unsigned char *chosen;
    unsigned chosen_size;
    struct client client;

    (void)state;
    assert_true(client_connect(&client, TLS1_2_VERSION));
    assert_false(SSL_SESSION_has_ticket(SSL_get0_session(client.ssl)));
    client_close(&client);
    client.context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_alpn_protos(client.context, protocols, sizeof(protocols) - 1);
    client.ssl = SSL_new(client.context);
    client.fd = probe_connect(http_server_port(server));
    SSL_set_fd(client.ssl, client.fd);
    assert_int_equal(SSL_connect(client.ssl), 1);
    SSL_get0_alpn_selected(client.ssl, &chosen, &chosen_size);
    assert_int_equal(chosen_size, 0);
    client_post(&client, 1);
    client_close(&client);
}

/* As a reload does: true when the certificate is another one. */
static bool reload(struct error *err)
{
    struct http_server_options options = defaults();
    struct http_credentials *credentials = http_credentials_read(&options.tls, err);

    assert_non_null(credentials);
    return http_server_use(server, credentials);
}

static void certificates_are_reloaded_without_dropping_anyone(void **state)
{
    struct client before;
    struct client after;
    struct error err = {0};
    int64_t expiry = http_server_certificate_expiry(server);
    int64_t now = clock_wall_ms(&clock_system) / 1000;

    (void)state;
    assert_in_range(expiry, now + 3000, now + 3700);
    assert_true(client_connect(&before, TLS1_3_VERSION));
    assert_int_equal(client_serial(&before), 1);
    write_pair(2);
    assert_true(reload(&err));
    assert_true(client_connect(&after, TLS1_3_VERSION));
    assert_int_equal(client_serial(&after), 2);
    client_post(&before, 1);
    client_post(&after, 1);
    client_close(&after);
    client_close(&before);
    assert_false(reload(&err)); /* the same again */
}

static void a_broken_certificate_changes_nothing(void **state)
{
    struct http_server_options options = defaults();
    struct client client;
    struct error err = {0};
    FILE *file = fopen(certificate_path, "w");

    (void)state;
    assert_non_null(file);
    fputs("not a certificate\n", file);
    fclose(file);
    assert_null(http_credentials_read(&options.tls, &err));
    assert_non_null(strstr(err.message, "cannot use the certificate"));
    assert_non_null(strstr(err.message, certificate_path));
    assert_non_null(strstr(err.message, "it holds nothing of the kind in PEM"));
    assert_true(client_connect(&client, TLS1_3_VERSION));
    assert_int_equal(client_serial(&client), 1);
    client_close(&client);
    assert_null(http_server_start(&options, &err));
}

static bool has_no_connections(void *context)
{
    (void)context;
    return http_server_connections(server) == 0;
}

static void handshakes_have_a_deadline(void **state)
{
    static const unsigned char beginning[] = {0x16, 3, 1, 2, 0, 1, 0};
    int silent = probe_connect(http_server_port(server));
    int halfway = probe_connect(http_server_port(server));
    int plain = probe_connect(http_server_port(server));

    (void)state;
    probe_send(halfway, beginning, sizeof(beginning));
    probe_send_string(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(probe_is_closed(silent));
    assert_true(probe_is_closed(halfway));
    assert_true(probe_until(has_no_connections, NULL));
    close(silent);
    close(halfway);
    close(plain);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(modern_versions_are_spoken),
        TEST(old_versions_are_refused),
        TEST(there_are_no_tickets_and_no_http2),
        TEST(certificates_are_reloaded_without_dropping_anyone),
        TEST(a_broken_certificate_changes_nothing),
        cmocka_unit_test_setup_teardown(handshakes_have_a_deadline, set_up_impatient, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
