#include "bridge/subscriptions/key_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/runtime/durable_file.h"
#include "bridge/subscriptions/key_store_format.h"
#include "bridge/subscriptions/stored_account.h"

#define KEYS_SUFFIX ".keys"

struct key_store {
    const struct clock *clock;
    struct durable_file file;
    int lock_fd; /* -1: for reading */
    struct stored_account *records;
    size_t count;
};

bool key_store_exists(const char *journal_path)
{
    char *path = durable_file_path(journal_path, KEYS_SUFFIX);
    bool exists = path && access(path, F_OK) == 0;

    free(path);
    return exists;
}

/* ---- reading and writing ---- */

static int set_aside(struct key_store *store, const struct error *damage, struct error *err)
{
    char aside[DURABLE_FILE_PATH_SIZE];

    if (store->lock_fd < 0)
        return error_set(err, ERROR_CONFIG, "the keys file %s: %s", store->file.path,
                         damage->message);
    if (durable_file_set_aside(&store->file, clock_wall_ms(store->clock), aside, err) < 0)
        return -1;
    log_error("keys.damaged", log_str("path", store->file.path), log_str("error", damage->message),
              log_str("set_aside", aside),
              log_str("action", "the next sync asks Close for the keys, or replaces the "
                                "subscriptions"));
    return 0;
}

static int load(struct key_store *store, struct error *err)
{
    struct error damage = {0};
    struct buf content = {0};
    bool exists;
    int rc = durable_file_read(&store->file, &content, &exists, err);

    if (rc == 0 && exists &&
        key_store_parse(buf_text(&content), &store->records, &store->count, &damage) < 0) {
        if (damage.kind == ERROR_INPUT)
            rc = set_aside(store, &damage, err);
        else
            rc = error_set(err, damage.kind, "the keys file %s: %s", store->file.path,
                           damage.message);
    }
    if (content.data)
        OPENSSL_cleanse(content.data, content.size);
    buf_release(&content);
    return rc;
}

static int save(const struct key_store *store, const struct stored_account *records, size_t count,
                struct error *err)
{
    struct buf content = {0};
    int rc;

    if (store->lock_fd < 0)
        return error_set(err, ERROR_FATAL, "the keys file %s was opened for reading",
                         store->file.path);
    key_store_format(records, count, &content);
    rc = content.failed ? error_set(err, ERROR_FATAL, "the keys file: out of memory")
                        : durable_file_write(&store->file, buf_text(&content), err);
    if (content.data)
        OPENSSL_cleanse(content.data, content.capacity);
    buf_release(&content);
    return rc;
}

/* ---- opening and closing ---- */

static int lock(struct key_store *store, const char *journal_path, struct error *err)
{
    char *path = durable_file_path(journal_path, KEYS_SUFFIX ".lock");
    int rc = 0;

    store->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        rc = error_set(err, ERROR_CONFIG,
                       "the keys file %s: cannot write beside journal.path: %s; give the journal a "
                       "folder in one that the bridge may write to",
                       store->file.path, strerror(errno));
    else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
        rc = error_set(err, ERROR_TRANSIENT, "the keys file %s: another close-bridge uses it",
                       store->file.path);
    free(path);
    return rc;
}

struct key_store *key_store_open(const char *journal_path, enum key_store_use use,
                                 const struct clock *clock, struct error *err)
{
    struct key_store *store = alloc_zeroed(1, sizeof(*store));

    store->clock = clock;
    store->lock_fd = -1;
    store->file =
        (struct durable_file){"the keys file", durable_file_path(journal_path, KEYS_SUFFIX)};
    if (!store->file.path)
        error_set(err, ERROR_FATAL, "the keys file: out of memory");
    else if ((use == KEY_STORE_READ || lock(store, journal_path, err) == 0) &&
             load(store, err) == 0)
        return store;
    key_store_close(store);
    return NULL;
}

void key_store_close(struct key_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < store->count; i++)
        stored_account_release(&store->records[i]);
    free(store->records);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store->file.path);
    free(store);
}

/* ---- records ---- */

size_t key_store_count(const struct key_store *store)
{
    return store ? store->count : 0;
}

const struct stored_account *key_store_at(const struct key_store *store, size_t index)
{
    return &store->records[index];
}

static size_t index_of(const struct key_store *store, const char *account)
{
    size_t i = 0;

    while (i < store->count && strcmp(store->records[i].account, account) != 0)
        i++;
    return i;
}

const struct stored_account *key_store_find(const struct key_store *store, const char *account)
{
    size_t i = store ? index_of(store, account) : 0;

    return store && i < store->count ? &store->records[i] : NULL;
}

/* Saves `records`, which then take the place of those before; the one that is not taken over is
 * released. */
static int replace(struct key_store *store, struct stored_account *records, size_t count,
                   struct stored_account *added, struct stored_account *removed, struct error *err)
{
    int rc = save(store, records, count, err);
    struct stored_account *outdated = rc == 0 ? removed : added;

    if (outdated)
        stored_account_release(outdated);
    free(rc == 0 ? store->records : records);
    if (rc == 0) {
        store->records = records;
        store->count = count;
    }
    return rc;
}

int key_store_put(struct key_store *store, const struct stored_account *record, struct error *err)
{
    size_t at = index_of(store, record->account);
    bool is_new = at == store->count;
    struct stored_account *records = alloc_zeroed(store->count + 1, sizeof(*records));
    struct stored_account before = {0};

    if (store->count)
        memcpy(records, store->records, store->count * sizeof(*records));
    if (!is_new)
        before = records[at];
    records[at] = stored_account_copy(record, record->account);
    return replace(store, records, store->count + is_new, &records[at], &before, err);
}

int key_store_remove(struct key_store *store, const char *account, struct error *err)
{
    size_t at = index_of(store, account);
    struct stored_account *records;
    struct stored_account before;

    if (at == store->count)
        return 0;
    records = alloc_zeroed(store->count, sizeof(*records));
    memcpy(records, store->records, store->count * sizeof(*records));
    before = records[at];
    memmove(&records[at], &records[at + 1], (store->count - at - 1) * sizeof(*records));
    return replace(store, records, store->count - 1, NULL, &before, err);
}
