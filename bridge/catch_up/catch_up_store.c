#include "bridge/catch_up/catch_up_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_account.h"
#include "bridge/runtime/checked_json.h"
#include "bridge/runtime/durable_file.h"
#include "schemas/json_compare.h"
#include "schemas/json_scan.h"

enum { MAX_ACCOUNTS = 10000, MAX_NAME = 256 };

struct catch_up_store {
    struct durable_file file;
};

/* ---- writing ---- */

static void append_name(struct buf *out, const char *key, const char *value)
{
    buf_printf(out, ",\"%s\":", key);
    buf_append_json_string(out, text_of(value));
}

static void append_tasks(struct buf *out, const struct catch_up_account *account)
{
    const char *comma = "";

    for (const struct catch_up_task *task = account->tasks; task; task = task->next) {
        if (task->is_dry_run || task->is_cancelled)
            continue;
        buf_printf(out,
                   "%s\n  {\"id\":%" PRIu64 ",\"since_ms\":%" PRId64 ",\"until_ms\":%" PRId64
                   ",\"reached_ms\":%" PRId64,
                   comma, task->id, task->since_ms, task->until_ms, task->reached_ms);
        append_name(out, "cause", catch_up_cause_name(task->cause));
        append_name(out, "object_type", task->object_type);
        append_name(out, "action", task->action);
        buf_append_char(out, '}');
        comma = ",";
    }
}

void catch_up_store_format(const struct catch_up_account *accounts, struct buf *out)
{
    struct buf list = {0};
    const char *comma = "";

    buf_append_char(&list, '[');
    for (const struct catch_up_account *account = accounts; account; account = account->next) {
        buf_printf(&list, "%s\n {\"account\":", comma);
        buf_append_json_string(&list, text_of(account->name));
        if (account->has_point)
            buf_printf(&list, ",\"point_ms\":%" PRId64 ",\"covered_ms\":%" PRId64,
                       account->point_ms, account->covered_ms);
        buf_printf(&list, ",\"next_id\":%" PRIu64 ",\"tasks\":[", account->next_id);
        append_tasks(&list, account);
        buf_append_string(&list, "]}");
        comma = ",";
    }
    buf_append_char(&list, ']');
    checked_json_append(buf_text(&list), out);
    out->failed = out->failed || list.failed;
    buf_release(&list);
}

/* ---- reading ---- */

/* False when it is not a string, or does not fit. */
static bool read_string(struct text object, const char *name, char *out, size_t capacity)
{
    struct text value = json_member(object, name);
    struct buf plain = {0};
    bool is_good;

    is_good = json_is_string(value) && json_unescape(json_string_inside(value), &plain) &&
              !plain.failed && plain.size < capacity &&
              !memchr(buf_text(&plain).data, '\0', plain.size);
    if (is_good)
        memcpy(out, buf_text(&plain).data, plain.size + 1);
    buf_release(&plain);
    return is_good;
}

static bool read_ms(struct text object, const char *name, int64_t *out_ms)
{
    uint64_t value;

    if (!text_to_u64(json_member(object, name), &value) || value > INT64_MAX / 2)
        return false;
    *out_ms = (int64_t)value;
    return true;
}

static bool read_task(struct text object, struct catch_up_account *account)
{
    struct catch_up_task task = {0};
    struct catch_up_task *added;
    char cause[32];
    uint64_t id;

    if (!read_ms(object, "since_ms", &task.since_ms) ||
        !read_ms(object, "until_ms", &task.until_ms) ||
        !read_ms(object, "reached_ms", &task.reached_ms) ||
        !read_string(object, "cause", cause, sizeof(cause)) ||
        !catch_up_cause_of(cause, &task.cause) ||
        !read_string(object, "object_type", task.object_type, sizeof(task.object_type)) ||
        !read_string(object, "action", task.action, sizeof(task.action)) ||
        !text_to_u64(json_member(object, "id"), &id))
        return false;
    added = catch_up_task_add(account, &task);
    if (added)
        added->id = id;
    return added != NULL;
}

static bool read_tasks(struct text list, struct catch_up_account *account)
{
    struct json_cursor cursor;
    struct text object;

    if (!json_array_begin(&cursor, list))
        return false;
    while (json_array_next(&cursor, &object)) {
        if (!read_task(object, account))
            return false;
    }
    return true;
}

static bool read_account(struct text object, struct catch_up_account **out_account)
{
    struct catch_up_account *account;
    char name[MAX_NAME];
    uint64_t next_id;

    if (!read_string(object, "account", name, sizeof(name)) ||
        !text_to_u64(json_member(object, "next_id"), &next_id))
        return false;
    account = catch_up_account_new(name);
    account->has_point = json_member(object, "point_ms").data != NULL;
    if ((account->has_point && (!read_ms(object, "point_ms", &account->point_ms) ||
                                !read_ms(object, "covered_ms", &account->covered_ms))) ||
        !read_tasks(json_member(object, "tasks"), account)) {
        catch_up_account_free(account);
        return false;
    }
    account->next_id = next_id;
    *out_account = account;
    return true;
}

static void free_accounts(struct catch_up_account *account)
{
    while (account) {
        struct catch_up_account *next = account->next;

        catch_up_account_free(account);
        account = next;
    }
}

int catch_up_store_parse(struct text content, struct catch_up_account **out_accounts,
                         struct error *err)
{
    struct catch_up_account *accounts = NULL;
    struct catch_up_account **end = &accounts;
    struct json_cursor cursor;
    struct text object;
    struct text list;
    size_t count = 0;
    bool is_good;

    if (checked_json_read(content, &list, err) < 0)
        return -1;
    is_good = json_array_begin(&cursor, list);
    while (is_good && json_array_next(&cursor, &object)) {
        is_good = ++count <= MAX_ACCOUNTS && read_account(object, end);
        if (is_good)
            end = &(*end)->next;
    }
    if (is_good) {
        *out_accounts = accounts;
        return 0;
    }
    free_accounts(accounts);
    return error_set(err, ERROR_INPUT, "it is damaged: a record cannot be read");
}

/* ---- the file ---- */

struct catch_up_store *catch_up_store_open(const char *journal_path, struct error *err)
{
    struct catch_up_store *store = alloc_zeroed(1, sizeof(*store));

    store->file =
        (struct durable_file){"the catch-up file", durable_file_path(journal_path, ".catch-up")};
    if (store->file.path)
        return store;
    error_set(err, ERROR_FATAL, "the catch-up file: out of memory");
    catch_up_store_close(store);
    return NULL;
}

void catch_up_store_close(struct catch_up_store *store)
{
    if (!store)
        return;
    free(store->file.path);
    free(store);
}

static int set_aside(const struct catch_up_store *store, int64_t now_ms, const struct error *damage,
                     struct error *err)
{
    char aside[DURABLE_FILE_PATH_SIZE];

    if (durable_file_set_aside(&store->file, now_ms, aside, err) < 0)
        return -1;
    log_error("catch_up.damaged", log_str("path", store->file.path),
              log_str("error", damage->message), log_str("set_aside", aside),
              log_str("action", "the Event Log is read again as far back as duplicates are "
                                "recognised; a catch-up that was asked for has to be asked for "
                                "again"));
    return 0;
}

int catch_up_store_load(struct catch_up_store *store, int64_t now_ms,
                        struct catch_up_account **out_accounts, bool *out_was_damaged,
                        struct error *err)
{
    struct error damage = {0};
    struct buf content = {0};
    bool exists;
    int rc = durable_file_read(&store->file, &content, &exists, err);

    *out_accounts = NULL;
    *out_was_damaged = false;
    if (rc == 0 && exists && catch_up_store_parse(buf_text(&content), out_accounts, &damage) < 0) {
        *out_was_damaged = damage.kind == ERROR_INPUT;
        rc = *out_was_damaged ? set_aside(store, now_ms, &damage, err)
                              : error_set(err, damage.kind, "the catch-up file %s: %s",
                                          store->file.path, damage.message);
    }
    buf_release(&content);
    return rc;
}

int catch_up_store_save(struct catch_up_store *store, const struct catch_up_account *accounts,
                        struct error *err)
{
    struct buf content = {0};
    int rc;

    catch_up_store_format(accounts, &content);
    rc = content.failed ? error_set(err, ERROR_FATAL, "the catch-up file: out of memory")
                        : durable_file_write(&store->file, buf_text(&content), err);
    buf_release(&content);
    return rc;
}
