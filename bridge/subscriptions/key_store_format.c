#include "bridge/subscriptions/key_store_format.h"

#include <inttypes.h>
#include <stdlib.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/runtime/checked_json.h"
#include "bridge/subscriptions/stored_account.h"
#include "schemas/json_compare.h"
#include "schemas/json_scan.h"

enum {
    MAX_RECORDS = 10000,
    MAX_KEYS = 64,
};

/* ---- writing ---- */

static void append_string(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "\"%s\":", name);
    if (value)
        buf_append_json_string(out, text_of(value));
    else
        buf_append_string(out, "null");
}

static void append_key(struct buf *out, const struct stored_key *key)
{
    char hex[2 * SIGNATURE_KEY_SIZE + 1];

    text_to_hex(key->key, SIGNATURE_KEY_SIZE, hex);
    buf_append_string(out, "\n   {");
    append_string(out, "subscription_id", key->subscription_id);
    buf_printf(out, ",\"key\":\"%s\",\"retired_ms\":%" PRId64 "}", hex, key->retired_ms);
    OPENSSL_cleanse(hex, sizeof(hex));
}

static void append_record(struct buf *out, const struct stored_account *record)
{
    buf_append_string(out, "\n {");
    append_string(out, "account", record->account);
    buf_append_char(out, ',');
    append_string(out, "subscription_id", record->subscription_id);
    buf_append_char(out, ',');
    append_string(out, "webhook_url", record->webhook_url);
    buf_printf(out, ",\"unsubscribed\":%s,\n  \"keys\":[",
               record->is_unsubscribed ? "true" : "false");
    for (size_t i = 0; i < record->key_count; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        append_key(out, &record->keys[i]);
    }
    buf_append_string(out, "]}");
}

void key_store_format(const struct stored_account *records, size_t count, struct buf *out)
{
    struct buf list = {0};

    buf_reserve(&list, 64 * 1024); /* growing would leave copies of keys behind */
    buf_append_char(&list, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_append_char(&list, ',');
        append_record(&list, &records[i]);
    }
    buf_append_char(&list, ']');
    checked_json_append(buf_text(&list), out);
    out->failed = out->failed || list.failed;
    if (list.data)
        OPENSSL_cleanse(list.data, list.capacity);
    buf_release(&list);
}

/* ---- reading ---- */

static bool read_key(struct text object, struct stored_account *record)
{
    struct text hex = json_member(object, "key");
    char *subscription_id = json_string_member(object, "subscription_id");
    unsigned char key[SIGNATURE_KEY_SIZE];
    uint64_t retired_ms;
    bool is_good;

    is_good = subscription_id && json_is_string(hex) && record->key_count < MAX_KEYS &&
              text_from_hex(json_string_inside(hex), key, sizeof(key)) &&
              text_to_u64(json_member(object, "retired_ms"), &retired_ms) &&
              retired_ms <= INT64_MAX && !stored_account_key(record, subscription_id);
    if (is_good) {
        stored_account_set_key(record, subscription_id, key);
        record->keys[record->key_count - 1].retired_ms = (int64_t)retired_ms;
        OPENSSL_cleanse(key, sizeof(key));
    }
    free(subscription_id);
    return is_good;
}

static bool read_record(struct text object, struct stored_account *record)
{
    struct json_cursor cursor;
    struct text key;

    *record = (struct stored_account){
        .account = json_string_member(object, "account"),
        .subscription_id = json_string_member(object, "subscription_id"),
        .webhook_url = json_string_member(object, "webhook_url"),
        .is_unsubscribed = text_equal_string(json_member(object, "unsubscribed"), "true"),
    };
    if (!record->account || !json_array_begin(&cursor, json_member(object, "keys")))
        return false;
    while (json_array_next(&cursor, &key)) {
        if (!read_key(key, record))
            return false;
    }
    return true;
}

static int read_records(struct text list, struct stored_account **out_records, size_t *out_count,
                        struct error *err)
{
    struct stored_account *records = NULL;
    struct json_cursor cursor;
    struct text object;
    size_t count = 0;
    bool is_good = json_array_begin(&cursor, list);

    while (is_good && json_array_next(&cursor, &object))
        count++;
    is_good = is_good && count <= MAX_RECORDS;
    records = is_good ? alloc_zeroed(count + 1, sizeof(*records)) : NULL;
    count = 0;
    json_array_begin(&cursor, list);
    while (is_good && json_array_next(&cursor, &object))
        is_good = read_record(object, &records[count++]);
    if (is_good) {
        *out_records = records;
        *out_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        stored_account_release(&records[i]);
    free(records);
    return error_set(err, ERROR_INPUT, "it is damaged: a record cannot be read");
}

int key_store_parse(struct text content, struct stored_account **out_records, size_t *out_count,
                    struct error *err)
{
    struct text list;

    return checked_json_read(content, &list, err) < 0
               ? -1
               : read_records(list, out_records, out_count, err);
}
