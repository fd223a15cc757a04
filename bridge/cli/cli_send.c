/*
 * send: signs and posts a test event to a running bridge, as Close does.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_sync.h"
#include "bridge/cli/cli_tls.h"
#include "bridge/config/config.h"
#include "bridge/webhook/signature.h"

enum { MAX_FILE = 64 * 1024 * 1024, MAX_ANSWER = 64 * 1024 };

struct send_options {
    const char *config_path;
    const char *account;
    const char *url;
    const char *object_type;
    const char *action;
    const char *lead_id;
    const char *event_id;
    const char *body_path;
};

static const char help[] =
    "usage: close-bridge send [-c FILE] [--account NAME] [--url URL] [--object-type TYPE]\n"
    "                         [--action ACTION] [--lead ID] [--event-id ID] [--body FILE|-]\n"
    "\n"
    "Makes an event in Close's shape, signs it with the account's first signature key (of the\n"
    "configuration, else of its subscription) and posts it. The event is marked: its records "
    "carry\n"
    "closetest. Without --url it goes to listen.address. --body posts a file, or standard input,\n"
    "instead of an event made here.\n"
    "\n"
    "exit codes: 0 answered 2xx, 64 usage, 65 refused, 66 no such file, 69 no answer or 503, 77\n"
    "refused because of the signature, 78 mistakes in the configuration.\n"
    "\n"
    "example: close-bridge send -c close-bridge.yaml --object-type opportunity --action updated\n";

static int read_options(int argc, char **argv, struct send_options *options)
{
    const struct cli_option known[] = {CLI_OPTION_CONFIG(&options->config_path),
                                       {.name = "account", .value = &options->account},
                                       {.name = "url", .value = &options->url},
                                       {.name = "object-type", .value = &options->object_type},
                                       {.name = "action", .value = &options->action},
                                       {.name = "lead", .value = &options->lead_id},
                                       {.name = "event-id", .value = &options->event_id},
                                       {.name = "body", .value = &options->body_path},
                                       {0}};
    int rc = cli_read_only_options("send", known, argc, argv);

    if (rc == EX_OK && options->url && strncmp(options->url, "http://", 7) != 0 &&
        strncmp(options->url, "https://", 8) != 0)
        return cli_usage_error("send", "--url %s does not begin with http:// or https://",
                               options->url);
    return rc;
}

/* An id as Close makes them: a prefix and base62. */
static void append_id(struct buf *out, const char *prefix, size_t length)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char bytes[64];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        out->failed = true; /* an id that is not fresh would be a duplicate */
    buf_printf(out, "%s_", prefix);
    for (size_t i = 0; i < length; i++)
        buf_append_char(out, digits[bytes[i] % 62]);
}

static void append_string(struct buf *json, const char *key, const char *value)
{
    buf_printf(json, "\"%s\": ", key);
    buf_append_json_string(json, text_of(value));
    buf_append_string(json, ", ");
}

static void append_made_id(struct buf *json, const char *key, const char *given, const char *prefix,
                           size_t length)
{
    struct buf id = {0};

    if (!given)
        append_id(&id, prefix, length);
    append_string(json, key, given ? given : buf_text(&id).data);
    json->failed = json->failed || id.failed;
    buf_release(&id);
}

/* What changed, as Close says it: the old values of an update, the whole object of a deletion. */
static void append_change(struct buf *body, const char *action)
{
    static const char now[] = "{\"name\": \"A test by close-bridge send\"}";
    bool is_update = strcmp(action, "updated") == 0;
    bool is_deletion = strcmp(action, "deleted") == 0;

    buf_printf(body,
               "\"changed_fields\": [%s], \"meta\": {}, \"data\": %s, \"previous_data\": %s}}",
               is_update ? "\"name\"" : "", is_deletion ? "{}" : now,
               is_deletion ? now
               : is_update ? "{\"name\": \"Before the test\"}"
                           : "{}");
}

/* In the order of keys of real deliveries (CLOSE.md section 2). */
static void make_body(struct buf *body, const struct send_options *options)
{
    struct timespec now;
    struct tm utc;
    char date[40];
    char stamp[64];
    struct buf lead = {0};

    assert(options->object_type && options->action); /* they have defaults */
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp, sizeof(stamp), "%s.%06ld", date, now.tv_nsec / 1000);
    if (!options->lead_id)
        append_id(&lead, "lead", 43);
    buf_append_string(body, "{\"subscription_id\": \"whsub_close-bridge-send\", \"event\": {");
    append_made_id(body, "id", options->event_id, "ev", 22);
    append_string(body, "date_created", stamp);
    append_string(body, "date_updated", stamp);
    append_string(body, "organization_id", "orga_close-bridge-send");
    buf_append_string(body, "\"user_id\": null, \"request_id\": null, \"api_key_id\": null, "
                            "\"oauth_client_id\": null, \"oauth_scope\": null, ");
    append_string(body, "object_type", options->object_type);
    if (strcmp(options->object_type, "lead") == 0)
        append_string(body, "object_id",
                      options->lead_id ? options->lead_id : buf_text(&lead).data);
    else
        append_made_id(body, "object_id", NULL, "obj", 43);
    append_string(body, "lead_id", options->lead_id ? options->lead_id : buf_text(&lead).data);
    append_string(body, "action", options->action);
    append_change(body, options->action);
    body->failed = body->failed || lead.failed;
    buf_release(&lead);
}

static int read_body(struct buf *body, const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char chunk[16384];
    size_t size;
    int rc = EX_OK;

    while (file && (size = fread(chunk, 1, sizeof(chunk), file)) > 0 && body->size <= MAX_FILE)
        buf_append(body, chunk, size);
    if (!file || ferror(file)) {
        fprintf(stderr, "close-bridge send: cannot read %s: %s\n", path, strerror(errno));
        rc = EX_NOINPUT;
    } else if (body->size > MAX_FILE) {
        fprintf(stderr, "close-bridge send: %s is above the limit of 64MiB\n", path);
        rc = EX_DATAERR;
    }
    if (file && file != stdin)
        fclose(file);
    return rc;
}

static void default_url(const struct config *config, const char *account, char *url,
                        size_t capacity)
{
    const char *scheme = config->listen.tls.certificate ? "https" : "http";
    const char *host = config->listen.host;

    if (strcmp(host, "0.0.0.0") == 0)
        host = "127.0.0.1";
    if (strcmp(host, "::") == 0)
        host = "::1";
    snprintf(url, capacity,
             strchr(host, ':') ? "%s://[%s]:%u/webhooks/%s" : "%s://%s:%u/webhooks/%s", scheme,
             host, config->listen.port, account);
}

static size_t keep(char *data, size_t size, size_t count, void *context)
{
    struct buf *answer = context;

    if (answer->size < MAX_ANSWER)
        buf_append(answer, data, size * count);
    return size * count;
}

static int exit_code(long status)
{
    if (status >= 200 && status < 300)
        return EX_OK;
    if (status == 401)
        return EX_NOPERM;
    return status == 503 ? EX_UNAVAILABLE : EX_DATAERR;
}

/* `certificate`: of our own listener; NULL: the machine's authorities vouch for the server. */
static int post(const char *url, const char *certificate, const struct buf *body,
                struct curl_slist *headers)
{
    CURL *client = curl_easy_init();
    struct buf answer = {0};
    struct error err;
    long status = 0;
    CURLcode code;

    if (!client) {
        fputs("close-bridge send: out of memory\n", stderr);
        return EX_OSERR;
    }
    if (certificate && cli_tls_pin(client, certificate, "listen.tls.certificate", &err) < 0) {
        fprintf(stderr, "close-bridge send: %s\n", err.message);
        curl_easy_cleanup(client);
        return EX_CONFIG;
    }
    curl_easy_setopt(client, CURLOPT_URL, url);
    curl_easy_setopt(client, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(client, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client, CURLOPT_NOPROXY, "127.0.0.1,::1,localhost");
    curl_easy_setopt(client, CURLOPT_CONNECTTIMEOUT_MS, 5000L); /* as long as Close waits */
    curl_easy_setopt(client, CURLOPT_TIMEOUT_MS, 15000L);
    curl_easy_setopt(client, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client, CURLOPT_POSTFIELDS, body->data ? body->data : "");
    curl_easy_setopt(client, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->size);
    curl_easy_setopt(client, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(client, CURLOPT_WRITEDATA, &answer);
    code = curl_easy_perform(client);
    curl_easy_getinfo(client, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(client);
    if (code == CURLE_OK)
        printf("%ld %s\n", status, buf_text(&answer).data);
    else
        fprintf(stderr, "close-bridge send: no answer from %s: %s\n", url,
                curl_easy_strerror(code));
    buf_release(&answer);
    return code == CURLE_OK ? exit_code(status) : EX_UNAVAILABLE;
}

static struct curl_slist *make_headers(const unsigned char key[SIGNATURE_KEY_SIZE],
                                       const struct buf *body)
{
    struct curl_slist *headers = NULL;
    char timestamp[24];
    char line[128];
    char hash[65];

    snprintf(timestamp, sizeof(timestamp), "%" PRId64, (int64_t)time(NULL));
    if (signature_sign(key, text_of(timestamp), buf_text(body), hash, NULL) < 0)
        return NULL;
    snprintf(line, sizeof(line), "close-sig-timestamp: %s", timestamp);
    headers = curl_slist_append(headers, line);
    snprintf(line, sizeof(line), "close-sig-hash: %s", hash);
    headers = curl_slist_append(headers, line);
    headers = curl_slist_append(headers, "content-type: application/json");
    headers = curl_slist_append(headers, "close-bridge-test: true");
    return curl_slist_append(headers, "Expect:");
}

/* The key to sign with: a configured one, else that of the subscription. False when none was
 * found, which was reported. */
static bool choose_key(const struct config *config, const struct config_account *account,
                       unsigned char out_key[SIGNATURE_KEY_SIZE])
{
    struct error err = {0};
    struct buf lines = {0};
    bool has_key = false;

    if (account->signature_key_count > 0) {
        memcpy(out_key, account->signature_keys[0], SIGNATURE_KEY_SIZE);
        return true;
    }
    if (cli_keys_list(config, account, &lines, &err) < 0)
        fprintf(stderr, "close-bridge send: %s\n", err.message);
    else if (lines.size == 0)
        fprintf(stderr,
                "close-bridge send: account %s has no key to sign with: set signature_keys, or "
                "subscribe with close-bridge sync\n",
                account->name);
    else
        has_key = text_from_hex((struct text){lines.data, strcspn(lines.data, "\n")}, out_key,
                                SIGNATURE_KEY_SIZE);
    cli_keys_wipe(&lines);
    return has_key;
}

static int make_or_read_body(struct buf *body, const struct send_options *options)
{
    int rc = EX_OK;

    if (options->body_path)
        rc = read_body(body, options->body_path);
    else
        make_body(body, options);
    if (rc == EX_OK && body->failed) {
        fputs("close-bridge send: out of memory or of randomness\n", stderr);
        rc = EX_OSERR;
    }
    return rc;
}

static int sign_and_post(const struct config *config, const struct send_options *options,
                         const struct config_account *account, const struct buf *body)
{
    unsigned char key[SIGNATURE_KEY_SIZE];
    struct curl_slist *headers;
    char url[512];
    int rc;

    if (!choose_key(config, account, key))
        return EX_CONFIG;
    default_url(config, account->name, url, sizeof(url));
    headers = make_headers(key, body);
    OPENSSL_cleanse(key, sizeof(key));
    rc = !headers       ? EX_SOFTWARE
         : options->url ? post(options->url, NULL, body, headers)
                        : post(url, config->listen.tls.certificate, body, headers);
    curl_slist_free_all(headers);
    return rc;
}

static int send_event(const struct config *config, const struct send_options *options)
{
    const struct config_account *account;
    struct buf body = {0};
    int rc;

    assert(config->accounts); /* a configuration has at least one */
    account = options->account ? cli_find_account("send", config, options->account)
                               : &config->accounts[0];
    if (!account)
        return EX_USAGE;
    if (!options->url && config->listen.port == 0) {
        fputs("close-bridge send: listen.address leaves the port open; name it with --url\n",
              stderr);
        return EX_USAGE;
    }
    rc = make_or_read_body(&body, options);
    if (rc == EX_OK)
        rc = sign_and_post(config, options, account, &body);
    buf_release(&body);
    return rc;
}

static int run(int argc, char **argv)
{
    struct send_options options = {.object_type = "lead", .action = "created"};
    struct config *config;
    int rc = read_options(argc, argv, &options);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(options.config_path), &rc);
    if (!config)
        return rc;
    rc = send_event(config, &options);
    config_free(config);
    return rc;
}

const struct command cli_send = {"send", "sign and post a test event, as Close does", help, run};
