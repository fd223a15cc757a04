#include "bridge/close/close_refusal.h"

#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/close/close_api.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

/* ---- what Close says ---- */

/* A string as it reads, anything else as it was written. */
static void append_value(struct buf *out, struct text value)
{
    size_t start = out->size;

    if (json_is_string(value) && json_unescape(json_string_inside(value), out))
        return;
    out->size = start;
    buf_append_text(out, value);
}

static void append_separator(struct buf *out)
{
    if (out->size > 0)
        buf_append_string(out, "; ");
}

static void append_list(struct buf *out, struct text list)
{
    struct json_cursor cursor;
    struct text value;

    if (!json_array_begin(&cursor, list))
        return;
    while (json_array_next(&cursor, &value)) {
        append_separator(out);
        append_value(out, value);
    }
}

static void append_fields(struct buf *out, struct text fields)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    if (!json_object_begin(&cursor, fields))
        return;
    while (json_object_next(&cursor, &key, &value)) {
        append_separator(out);
        buf_append_text(out, key);
        buf_append_string(out, ": ");
        append_value(out, value);
    }
}

static void append_members(struct buf *out, struct text object)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    if (!json_object_begin(&cursor, object))
        return;
    while (json_object_next(&cursor, &key, &value)) {
        if (json_key_is(key, "errors")) {
            append_list(out, value);
        } else if (json_key_is(key, "field-errors")) {
            append_fields(out, value);
        } else if (json_key_is(key, "error") || json_key_is(key, "message")) {
            append_separator(out);
            append_value(out, value);
        }
    }
}

/* One line of printable ASCII: what is cut must not be cut inside a character. */
static void append_clean(struct buf *out, struct text text)
{
    static const char dots[] = "...";
    bool is_cut = text.size > CLOSE_REASON_MAX;
    size_t size = is_cut ? CLOSE_REASON_MAX - (sizeof(dots) - 1) : text.size;

    for (size_t i = 0; i < size; i++)
        buf_append_char(out, text.data[i] >= 0x20 && text.data[i] < 0x7f ? text.data[i] : ' ');
    if (is_cut)
        buf_append_string(out, dots);
}

void close_refusal_reason(struct text body, struct buf *out)
{
    struct json_reader *reader = json_reader_new();
    struct buf said = {0};

    if (reader && json_reader_check(reader, body.data, body.size) == JSON_VALID)
        append_members(&said, json_document(body));
    if (!said.failed)
        append_clean(out, buf_text(&said));
    buf_release(&said);
    json_reader_free(reader);
}

/* ---- what to do ---- */

static bool holds(struct text text, const char *secret)
{
    return secret && *secret && memmem(text.data, text.size, secret, strlen(secret));
}

static bool holds_credential(struct text text, const struct close_refusal *refusal)
{
    return holds(text, refusal->access->api_key) || holds(text, refusal->access->oauth_token);
}

/* ": " and what Close says, unless it repeats a credential: also one that a long sentence is cut
 * in. */
static void read_reason(const struct close_refusal *refusal, struct buf *out)
{
    buf_append_string(out, ": ");
    close_refusal_reason(refusal->body, out);
    if (out->size == 2 || holds_credential(refusal->body, refusal) ||
        holds_credential(buf_text(out), refusal))
        buf_clear(out);
}

static int refuse_credentials(const struct close_refusal *refusal, struct error *err)
{
    if (refusal->access->oauth_token)
        return error_set(err, ERROR_CONFIG,
                         "Close does not accept the OAuth token (401): it has expired or was "
                         "revoked; set a fresh oauth_token");
    return error_set(err, ERROR_CONFIG,
                     "Close does not accept the API key (401): check api_key; keys are made in "
                     "Close under Settings, Developer, API Keys");
}

static int refuse_redirect(const struct close_refusal *refusal, struct error *err)
{
    struct buf location = {0};

    append_clean(&location, refusal->location.data ? refusal->location : text_of("another place"));
    error_set(err, ERROR_CONFIG,
              "%s answers with a redirect (%d) to %.150s, which is not followed, for the key goes "
              "to nobody else: check api_url",
              refusal->access->url, refusal->status, buf_text(&location).data);
    buf_release(&location);
    return -1;
}

static int refuse_for_now(const struct close_refusal *refusal, const char *reason,
                          struct error *err)
{
    if (refusal->status == 429 && refusal->wait_ms > 0)
        return error_set(err, ERROR_TRANSIENT,
                         "Close limits the rate of requests (429) and asks for a pause of %lld s: "
                         "other programs use the same key or organization; try again then",
                         (long long)(refusal->wait_ms + 999) / 1000);
    if (refusal->status == 429)
        return error_set(err, ERROR_TRANSIENT,
                         "Close limits the rate of requests (429), after %d attempt%s: other "
                         "programs use the same key or organization; try again later",
                         refusal->attempts, refusal->attempts == 1 ? "" : "s");
    return error_set(err, ERROR_TRANSIENT,
                     "Close has a fault (%d to %s %s, after %d attempt%s)%s; try again later",
                     refusal->status, refusal->method, refusal->path, refusal->attempts,
                     refusal->attempts == 1 ? "" : "s", reason);
}

static int refuse(const struct close_refusal *refusal, const char *reason, struct error *err)
{
    if (refusal->status == 401)
        return refuse_credentials(refusal, err);
    if (refusal->status == 402)
        return error_set(err, ERROR_CONFIG,
                         "the organization's plan at Close does not include this (402)%s: change "
                         "the plan, or use the key of another organization",
                         reason);
    if (refusal->status == 403)
        return error_set(err, ERROR_CONFIG,
                         "the user of the key may not do this (403 to %s %s)%s: use the key of an "
                         "administrator of the organization",
                         refusal->method, refusal->path, reason);
    if (refusal->status >= 300 && refusal->status < 400)
        return refuse_redirect(refusal, err);
    if (refusal->status == 429 || refusal->status >= 500)
        return refuse_for_now(refusal, reason, err);
    if (refusal->status == 404 && !*reason)
        return error_set(err, ERROR_INPUT,
                         "%s has nothing at %s (404): it was deleted, or api_url is wrong",
                         refusal->access->url, refusal->path);
    return error_set(err, ERROR_INPUT, "Close refuses %s %s (%d)%s", refusal->method, refusal->path,
                     refusal->status, reason);
}

int close_refusal_set(const struct close_refusal *refusal, struct error *err)
{
    struct buf reason = {0};

    read_reason(refusal, &reason);
    refuse(refusal, buf_text(&reason).data, err);
    buf_release(&reason);
    return -1;
}
