#include "tests/bench/requests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>

enum { HASH_SIZE = 32, STAMP_DIGITS = 10, STAMP_TIME_DIGITS = 16, HEAD_MAX = 2048 };

/* One request, ready but for what is written anew each time. */
struct layout {
    char *bytes;
    size_t size;
    size_t body_at;
    size_t id_at;
    size_t stamp_at;
    size_t hash_at;
};

struct requests {
    struct layout *layouts;
    size_t count;
    size_t next;
    unsigned thread;
    uint32_t serial;
    time_t stamp; /* as it is written now */
    char stamp_text[STAMP_DIGITS + 1];
    EVP_MAC_CTX *keyed;
};

static const char id_mark[] = "\"id\": \"ev_";
static const char hex[] = "0123456789abcdef";

int64_t requests_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *must(void *memory)
{
    if (memory)
        return memory;
    fprintf(stderr, "out of memory\n");
    exit(EX_OSERR);
}

static char *read_body(const char *name, size_t *out_size)
{
    FILE *file = fopen(name, "rb");
    char *body;
    long size;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        exit(EX_NOINPUT);
    }
    rewind(file);
    body = must(malloc((size_t)size + 1));
    *out_size = fread(body, 1, (size_t)size, file);
    fclose(file);
    return body;
}

/* The headers of a real delivery. */
static int write_head(char *head, const char *path, size_t body_size)
{
    return snprintf(head, HEAD_MAX,
                    "POST %s HTTP/1.1\r\n"
                    "Host: 127.0.0.1\r\n"
                    "Accept: */*\r\n"
                    "Accept-Encoding: gzip, deflate\r\n"
                    "baggage: sentry-trace_id=61a24e3effec455dbbdd7e64cd92ed34,"
                    "sentry-environment=production,sentry-release=8cc593e4c43631cc\r\n"
                    "Close-Sig-Hash: %064d\r\n"
                    "Close-Sig-Timestamp: %010d\r\n"
                    "content-type: application/json\r\n"
                    "sentry-trace: 61a24e3effec455dbbdd7e64cd92ed34-9b19a5131ec8a33a\r\n"
                    "User-Agent: Close Webhooks 2.0\r\n"
                    "X-Forwarded-For: 54.186.6.46\r\n"
                    "X-Forwarded-Port: 443\r\n"
                    "X-Forwarded-Proto: https\r\n"
                    "Content-Length: %zu\r\n\r\n",
                    path, 0, 0, body_size);
}

static size_t place_behind(const struct layout *layout, size_t from, const char *mark)
{
    const char *found = memmem(layout->bytes + from, layout->size - from, mark, strlen(mark));

    return found ? (size_t)(found - layout->bytes) + strlen(mark) : 0;
}

static void lay_out(struct layout *layout, const char *name, const char *path)
{
    size_t body_size;
    char *body = read_body(name, &body_size);

    layout->bytes = must(malloc(HEAD_MAX + body_size));
    layout->body_at = (size_t)write_head(layout->bytes, path, body_size);
    layout->size = layout->body_at + body_size;
    memcpy(layout->bytes + layout->body_at, body, body_size);
    free(body);
    layout->hash_at = place_behind(layout, 0, "Close-Sig-Hash: ");
    layout->stamp_at = place_behind(layout, 0, "Close-Sig-Timestamp: ");
    layout->id_at = place_behind(layout, layout->body_at, id_mark);
    if (layout->id_at == 0 || layout->id_at + REQUESTS_ID_DIGITS >= layout->size ||
        layout->bytes[layout->id_at + REQUESTS_ID_DIGITS] != '"') {
        fprintf(stderr, "%s: has no event id of %d characters behind %s\n", name,
                REQUESTS_ID_DIGITS, id_mark);
        exit(EX_DATAERR);
    }
}

/* Each use starts over with the key that the context holds. */
static EVP_MAC_CTX *keyed_context(const unsigned char *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (context && EVP_MAC_init(context, key, REQUESTS_KEY_SIZE, params) == 1)
        return context;
    fprintf(stderr, "OpenSSL has no HMAC-SHA256\n");
    exit(EX_SOFTWARE);
}

struct requests *requests_new(char *const *files, size_t file_count, const char *path,
                              const unsigned char key[REQUESTS_KEY_SIZE], unsigned thread)
{
    struct requests *requests = must(calloc(1, sizeof(*requests)));

    requests->layouts = must(calloc(file_count, sizeof(*requests->layouts)));
    requests->count = file_count;
    requests->thread = thread;
    requests->keyed = keyed_context(key);
    for (size_t i = 0; i < file_count; i++)
        lay_out(&requests->layouts[i], files[i], path);
    return requests;
}

void requests_free(struct requests *requests)
{
    if (!requests)
        return;
    for (size_t i = 0; i < requests->count; i++)
        free(requests->layouts[i].bytes);
    free(requests->layouts);
    EVP_MAC_CTX_free(requests->keyed);
    free(requests);
}

static void write_hex(char *out, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        out[i] = hex[value & 15];
}

static void write_stamp(struct requests *requests, struct layout *layout)
{
    time_t now = time(NULL);

    if (now != requests->stamp) {
        requests->stamp = now;
        snprintf(requests->stamp_text, sizeof(requests->stamp_text), "%0*ld", STAMP_DIGITS,
                 (long)now);
    }
    memcpy(layout->bytes + layout->stamp_at, requests->stamp_text, STAMP_DIGITS);
}

static void sign(struct requests *requests, struct layout *layout)
{
    const unsigned char *bytes = (const unsigned char *)layout->bytes;
    unsigned char hash[HASH_SIZE];
    size_t size;

    if (EVP_MAC_init(requests->keyed, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(requests->keyed, bytes + layout->stamp_at, STAMP_DIGITS) != 1 ||
        EVP_MAC_update(requests->keyed, bytes + layout->body_at, layout->size - layout->body_at) !=
            1 ||
        EVP_MAC_final(requests->keyed, hash, &size, sizeof(hash)) != 1)
        abort();
    for (size_t i = 0; i < HASH_SIZE; i++)
        write_hex(layout->bytes + layout->hash_at + 2 * i, hash[i], 2);
}

const char *requests_next(struct requests *requests, int64_t due_ns, size_t *out_size)
{
    struct layout *layout = &requests->layouts[requests->next];

    requests->next = requests->next + 1 == requests->count ? 0 : requests->next + 1;
    write_hex(layout->bytes + layout->id_at, (uint64_t)due_ns, STAMP_TIME_DIGITS);
    write_hex(layout->bytes + layout->id_at + STAMP_TIME_DIGITS,
              (uint64_t)requests->thread << 20 | (requests->serial++ & 0xfffff),
              REQUESTS_ID_DIGITS - STAMP_TIME_DIGITS);
    write_stamp(requests, layout);
    sign(requests, layout);
    *out_size = layout->size;
    return layout->bytes;
}

int64_t requests_due_ns(const char *digits, size_t size)
{
    uint64_t value = 0;

    if (size < STAMP_TIME_DIGITS)
        return -1;
    for (size_t i = 0; i < STAMP_TIME_DIGITS; i++) {
        const char *digit = memchr(hex, digits[i], 16);

        if (!digit)
            return -1;
        value = value << 4 | (uint64_t)(digit - hex);
    }
    return (int64_t)value;
}
