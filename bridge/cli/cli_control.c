#include "bridge/cli/cli_control.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include "bridge/base/error.h"
#include "bridge/cli/cli_tls.h"
#include "bridge/close/close_refusal.h"
#include "bridge/config/config.h"
#include "schemas/json_reader.h"

enum { MAX_ANSWER = 64 * 1024 * 1024 };

static size_t keep_body(char *data, size_t size, size_t count, void *context)
{
    struct buf *body = context;

    if (body->size + size * count > MAX_ANSWER)
        return 0;
    buf_append(body, data, size * count);
    return body->failed ? 0 : size * count;
}

/* Where a client on this machine reaches the control listener. */
static void control_url(const struct config *config, const char *path, char *url, size_t capacity)
{
    const char *host = config->control.host ? config->control.host : "localhost";

    if (strcmp(host, "0.0.0.0") == 0)
        host = "127.0.0.1";
    if (strcmp(host, "::") == 0)
        host = "::1";
    snprintf(url, capacity, strchr(host, ':') ? "%s://[%s]:%u%s" : "%s://%s:%u%s",
             cli_tls_scheme(config), host, config->control.host ? config->control.port : 80U, path);
}

/* Returns owned (curl_slist_free_all), NULL without a token. */
static struct curl_slist *token_header(const struct config *config)
{
    struct buf line = {0};
    struct curl_slist *headers;

    if (!config->control.token)
        return NULL;
    buf_reserve(&line, 2048);
    buf_printf(&line, "authorization: Bearer %s", config->control.token);
    headers = curl_slist_append(NULL, buf_text(&line).data);
    if (line.data)
        OPENSSL_cleanse(line.data, line.capacity);
    buf_release(&line);
    return headers;
}

static CURLcode perform(CURL *client, const struct config *config, struct control_answer *answer)
{
    struct curl_slist *headers = token_header(config);
    CURLcode code;

    curl_easy_setopt(client, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client, CURLOPT_PROXY, "");
    curl_easy_setopt(client, CURLOPT_WRITEFUNCTION, keep_body);
    curl_easy_setopt(client, CURLOPT_WRITEDATA, &answer->body);
    if (config->control.socket_path)
        curl_easy_setopt(client, CURLOPT_UNIX_SOCKET_PATH, config->control.socket_path);
    code = curl_easy_perform(client);
    curl_easy_getinfo(client, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_slist_free_all(headers);
    return code;
}

static void say_problem(struct control_answer *answer, const struct config *config, CURLcode code,
                        const struct error *err)
{
    const char *hint = cli_tls_hint(config, (int)code);

    if (err->kind != ERROR_NONE)
        snprintf(answer->problem, sizeof(answer->problem), "%s", err->message);
    else
        snprintf(answer->problem, sizeof(answer->problem), "no bridge answers at %s: %s%s%s",
                 answer->url, curl_easy_strerror(code), hint ? ": " : "", hint ? hint : "");
}

enum control_outcome cli_control_ask(const struct config *config, const char *method,
                                     const char *path, int64_t timeout_ms,
                                     struct control_answer *out_answer)
{
    CURLcode code = CURLE_OUT_OF_MEMORY;
    struct error err = {0};
    CURL *client;

    *out_answer = (struct control_answer){0};
    if (config->control.host && config->control.port == 0) {
        snprintf(out_answer->problem, sizeof(out_answer->problem),
                 "control.address leaves the port open, so a bridge cannot be found");
        return CONTROL_NOBODY;
    }
    client = curl_easy_init();
    control_url(config, path, out_answer->url, sizeof(out_answer->url));
    if (client && cli_tls_set(client, config, &err) == 0) {
        curl_easy_setopt(client, CURLOPT_URL, out_answer->url);
        curl_easy_setopt(client, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(client, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
        code = perform(client, config, out_answer);
    }
    curl_easy_cleanup(client);
    if (config->control.socket_path)
        snprintf(out_answer->url, sizeof(out_answer->url), "unix:%s", config->control.socket_path);
    if (code == CURLE_OK && buf_reserve(&out_answer->body, JSON_PADDING)) {
        memset(out_answer->body.data + out_answer->body.size, 0, JSON_PADDING);
        return CONTROL_ANSWERED;
    }
    say_problem(out_answer, config, code, &err);
    return code == CURLE_COULDNT_CONNECT ? CONTROL_NOBODY : CONTROL_FAILED;
}

void cli_control_append_parameter(struct buf *path, const char *name, const char *value)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.~";

    if (!value)
        return;
    buf_printf(path, "%c%s=", strchr(buf_text(path).data, '?') ? '&' : '?', name);
    for (; *value; value++) {
        if (strchr(plain, *value))
            buf_append_char(path, *value);
        else
            buf_printf(path, "%%%02X", (unsigned)(unsigned char)*value);
    }
}

int cli_control_refused(const char *command, const struct control_answer *answer)
{
    struct buf reason = {0};

    close_refusal_reason(buf_text(&answer->body), &reason);
    fprintf(stderr, "close-bridge %s: the bridge at %s refuses it (%ld): %s%s\n", command,
            answer->url, answer->status, buf_text(&reason).data,
            answer->status == 401 ? " control.token is another one in its configuration." : "");
    buf_release(&reason);
    if (answer->status == 401)
        return EX_NOPERM;
    return answer->status == 503 ? EX_UNAVAILABLE : EX_DATAERR;
}
