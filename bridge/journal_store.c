#include "bridge/journal_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "schemas/event.h"

enum { FORMAT_VERSION = 1, MAX_READERS = 16 };

static const uint64_t MIB = 1024 * 1024;

static const struct {
    const char *name;
    unsigned flags;
} databases[DB_COUNT] = {
    [DB_EVENTS] = {"events", MDB_INTEGERKEY}, [DB_CURSORS] = {"cursors", 0},
    [DB_MARKS] = {"marks", MDB_INTEGERKEY},   [DB_PARKED] = {"parked", 0},
    [DB_DEAD] = {"dead", MDB_INTEGERKEY},     [DB_META] = {"meta", 0},
};

int store_error(struct error *err, int code, const char *doing)
{
    switch (code) {
    case MDB_MAP_FULL:
        return error_set(err, ERROR_TRANSIENT, "%s: the journal has reached its size", doing);
    case MDB_VERSION_MISMATCH:
    case MDB_INVALID:
        return error_set(err, ERROR_FATAL, "%s: the file is not a journal, or damaged: %s", doing,
                         mdb_strerror(code));
    default:
        return error_set(err, ERROR_TRANSIENT, "%s: %s", doing, mdb_strerror(code));
    }
}

/* ---- folder and lock ---- */

static int make_folder(const char *path, struct error *err)
{
    struct stat info;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set(err, ERROR_CONFIG, "cannot make the folder: %s", strerror(errno));
    if (lstat(path, &info) < 0 || !S_ISDIR(info.st_mode))
        return error_set(err, ERROR_CONFIG, "it is not a folder");
    if (info.st_uid != geteuid())
        return error_set(err, ERROR_CONFIG, "the folder belongs to user %u, not to this one (%u)",
                         (unsigned)info.st_uid, (unsigned)geteuid());
    return 0;
}

static int in_use(int fd, struct error *err)
{
    char owner[32] = "";
    ssize_t size = pread(fd, owner, sizeof(owner) - 1, 0);

    owner[size > 0 ? size : 0] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    return error_set(err, ERROR_CONFIG, "it is in use by process %s: one bridge, one journal",
                     owner[0] ? owner : "(unknown)");
}

static int lock_folder(struct store *store, struct error *err)
{
    char name[4096];
    int size;

    snprintf(name, sizeof(name), "%s/lock", store->path);
    store->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return error_set(err, ERROR_CONFIG, "cannot open %s: %s", name, strerror(errno));
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return in_use(store->lock_fd, err);
    size = snprintf(name, sizeof(name), "%ld\n", (long)getpid());
    if (ftruncate(store->lock_fd, 0) < 0 || pwrite(store->lock_fd, name, (size_t)size, 0) != size)
        return error_set(err, ERROR_TRANSIENT, "cannot write its lock file: %s", strerror(errno));
    return 0;
}

/* LMDB does not sync the folder after it made its files (TRAPS 8). */
static int sync_folder(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (fd >= 0)
        close(fd);
    if (rc < 0)
        return error_set(err, ERROR_TRANSIENT, "cannot sync the folder: %s", strerror(errno));
    return 0;
}

/* ---- environment ---- */

static void close_env(struct store *store)
{
    if (store->data_fd >= 0)
        close(store->data_fd);
    store->data_fd = -1;
    if (store->env)
        mdb_env_close(store->env);
    store->env = NULL;
}

static int open_databases(struct store *store, MDB_txn *txn)
{
    for (int i = 0; i < DB_COUNT; i++) {
        int rc =
            mdb_dbi_open(txn, databases[i].name, databases[i].flags | MDB_CREATE, &store->dbs[i]);

        if (rc != 0)
            return rc;
    }
    return 0;
}

static MDB_val text_key(const char *name)
{
    return (MDB_val){strlen(name), (void *)(uintptr_t)name};
}

/* Reads or makes the secret of the dedupe marks and checks the format's version. */
static int open_meta(struct store *store, MDB_txn *txn, struct error *err)
{
    MDB_val version_key = text_key("version");
    MDB_val secret_key = text_key("secret");
    uint32_t version = FORMAT_VERSION;
    MDB_val value;
    int rc = mdb_get(txn, store->dbs[DB_META], &version_key, &value);

    if (rc == 0) {
        memcpy(&version, value.mv_data, value.mv_size < 4 ? value.mv_size : 4);
        if (version != FORMAT_VERSION)
            return error_set(err, ERROR_CONFIG, "it has format %u, this version reads %d", version,
                             FORMAT_VERSION);
        rc = mdb_get(txn, store->dbs[DB_META], &secret_key, &value);
        if (rc != 0 || value.mv_size != sizeof(store->secret))
            return store_error(err, rc ? rc : MDB_INVALID, "read the secret");
        memcpy(store->secret, value.mv_data, sizeof(store->secret));
        return 0;
    }
    if (rc != MDB_NOTFOUND)
        return store_error(err, rc, "read the version");
    if (RAND_bytes(store->secret, sizeof(store->secret)) != 1)
        return error_set(err, ERROR_FATAL, "the system gives no random numbers");
    value = (MDB_val){sizeof(version), &version};
    rc = mdb_put(txn, store->dbs[DB_META], &version_key, &value, 0);
    value = (MDB_val){sizeof(store->secret), store->secret};
    if (rc == 0)
        rc = mdb_put(txn, store->dbs[DB_META], &secret_key, &value, 0);
    return rc == 0 ? 0 : store_error(err, rc, "write the secret");
}

/* The key of the first or last entry of a database of numbers; 0 when it is empty. */
static uint64_t end_key(struct store *store, MDB_txn *txn, enum store_db db, MDB_cursor_op op,
                        MDB_val *out_value)
{
    MDB_cursor *cursor;
    MDB_val key;
    uint64_t number = 0;

    if (mdb_cursor_open(txn, store->dbs[db], &cursor) != 0)
        return 0;
    if (mdb_cursor_get(cursor, &key, out_value, op) == 0 && key.mv_size == sizeof(number))
        memcpy(&number, key.mv_data, sizeof(number));
    mdb_cursor_close(cursor);
    return number;
}

static uint64_t count_entries(struct store *store, MDB_txn *txn, enum store_db db)
{
    MDB_stat stat;

    return mdb_stat(txn, store->dbs[db], &stat) == 0 ? stat.ms_entries : 0;
}

static int load_cursors(struct store *store, MDB_txn *txn, struct error *err)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, store->dbs[DB_CURSORS], &cursor);

    if (rc != 0)
        return store_error(err, rc, "read the cursors");
    store->cursor_count = 0;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0 &&
           store->cursor_count < STORE_MAX_CURSORS) {
        struct store_cursor *loaded = &store->cursors[store->cursor_count];

        if (key.mv_size > STORE_MAX_NAME || value.mv_size != sizeof(loaded->seq))
            continue;
        memcpy(loaded->name, key.mv_data, key.mv_size);
        loaded->name[key.mv_size] = '\0';
        memcpy(&loaded->seq, value.mv_data, sizeof(loaded->seq));
        store->cursor_count++;
    }
    mdb_cursor_close(cursor);
    return 0;
}

static uint32_t age_of_event(const MDB_val *value)
{
    struct event_record head;

    if (value->mv_size < sizeof(head))
        return 0;
    memcpy(&head, value->mv_data, sizeof(head));
    return head.journal_age;
}

static uint32_t time_of_marks(const MDB_val *value)
{
    struct store_mark mark;

    if (value->mv_size < sizeof(mark))
        return 0;
    memcpy(&mark, (const char *)value->mv_data + value->mv_size - sizeof(mark), sizeof(mark));
    return mark.time_s;
}

/* Where the journal stands is read off its ends, so that no commit has to write it. */
static void load_position(struct store *store, MDB_txn *txn)
{
    MDB_val value;
    uint32_t age_s = 0;

    store->tail = end_key(store, txn, DB_EVENTS, MDB_LAST, &value);
    if (store->tail > 0)
        age_s = age_of_event(&value);
    store->mark_tail = end_key(store, txn, DB_MARKS, MDB_LAST, &value);
    if (store->mark_tail > 0 && time_of_marks(&value) > age_s)
        age_s = time_of_marks(&value);
    if (age_s > store->newest_age_s)
        store->newest_age_s = age_s;
    store->head = end_key(store, txn, DB_EVENTS, MDB_FIRST, &value);
    store->dead_tail = end_key(store, txn, DB_DEAD, MDB_LAST, &value);
    store->dead_count = count_entries(store, txn, DB_DEAD);
    for (size_t i = 0; i < store->cursor_count; i++) {
        uint64_t *end = store->cursors[i].name[0] == '@' ? &store->dead_tail : &store->tail;

        if (store->cursors[i].seq > *end)
            *end = store->cursors[i].seq;
    }
    if (store->head == 0)
        store->head = store->tail + 1;
}

static int read_state(struct store *store, struct error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (rc != 0)
        return store_error(err, rc, "open");
    rc = open_databases(store, txn);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return store_error(err, rc, "open its databases");
    }
    if (open_meta(store, txn, err) < 0 || load_cursors(store, txn, err) < 0) {
        mdb_txn_abort(txn);
        return -1;
    }
    load_position(store, txn);
    rc = mdb_txn_commit(txn);
    return rc == 0 ? 0 : store_error(err, rc, "open");
}

static int open_env(struct store *store, struct error *err)
{
    /* Full sync: no MDB_NOSYNC, no MDB_NOMETASYNC, no MDB_WRITEMAP. */
    const unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    MDB_stat stat;
    int dead_readers;
    int rc = mdb_env_create(&store->env);
    struct stat info;
    char name[4096];

    if (rc == 0)
        rc = mdb_env_set_mapsize(store->env, store->map_size);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(store->env, DB_COUNT);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(store->env, MAX_READERS);
    if (rc == 0)
        rc = mdb_env_open(store->env, store->path, flags, 0600);
    if (rc != 0)
        return store_error(err, rc, "open");
    mdb_reader_check(store->env, &dead_readers);
    mdb_env_stat(store->env, &stat);
    store->page_size = stat.ms_psize;
    snprintf(name, sizeof(name), "%s/data.mdb", store->path);
    store->data_fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (store->data_fd < 0 || fstat(store->data_fd, &info) < 0)
        return error_set(err, ERROR_TRANSIENT, "cannot open %s: %s", name, strerror(errno));
    store->allocated = (uint64_t)info.st_size;
    return read_state(store, err);
}

int store_open(struct store *store, const char *path, uint64_t max_size, struct error *err)
{
    uint64_t reserve = max_size / 8 > 64 * MIB ? max_size / 8 : 64 * MIB;

    memset(store, 0, sizeof(*store));
    store->lock_fd = -1;
    store->data_fd = -1;
    pthread_rwlock_init(&store->guard, NULL);
    store->max_size = max_size;
    store->map_size = (max_size + reserve + MIB - 1) / MIB * MIB;
    store->path = strdup(path);
    if (!store->path)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (make_folder(path, err) < 0 || lock_folder(store, err) < 0 || open_env(store, err) < 0)
        return -1;
    return sync_folder(path, err);
}

void store_close(struct store *store)
{
    close_env(store);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store->path);
    pthread_rwlock_destroy(&store->guard);
}

int store_reopen(struct store *store, struct error *err)
{
    int rc;

    pthread_rwlock_wrlock(&store->guard);
    close_env(store);
    rc = open_env(store, err);
    if (rc < 0)
        close_env(store);
    pthread_rwlock_unlock(&store->guard);
    return rc;
}

/* ---- space ---- */

uint64_t store_db_bytes(struct store *store, MDB_txn *txn, enum store_db db)
{
    MDB_stat stat;

    if (mdb_stat(txn, store->dbs[db], &stat) != 0)
        return 0;
    return (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * store->page_size;
}

int store_space(struct store *store, MDB_txn *txn, uint64_t *out_used, uint64_t *out_high_water)
{
    MDB_envinfo info;
    int rc = mdb_env_info(store->env, &info);

    *out_used = 2 * store->page_size;
    for (int i = 0; i < DB_COUNT; i++)
        *out_used += store_db_bytes(store, txn, (enum store_db)i);
    *out_high_water = (info.me_last_pgno + 1) * store->page_size;
    return rc;
}

bool store_extend(struct store *store, uint64_t high_water, uint64_t bytes)
{
    uint64_t step = store->max_size / 64;
    uint64_t wanted;

    if (store->allocated >= high_water + bytes)
        return true;
    step = step < MIB ? MIB : step > 64 * MIB ? 64 * MIB : step;
    wanted = high_water + bytes + step;
    wanted = wanted < store->map_size ? wanted : store->map_size;
    while (fallocate(store->data_fd, 0, 0, (off_t)wanted) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EOPNOTSUPP) /* this file system cannot: LMDB extends the file as it writes */
            break;
        return false;
    }
    store->allocated = wanted;
    return true;
}

/* ---- events, marks, cursors ---- */

static MDB_val number_key(uint64_t *number)
{
    return (MDB_val){sizeof(*number), number};
}

int store_put_event(struct store *store, MDB_txn *txn, struct event *event)
{
    uint64_t seq = event->record->seq;
    MDB_val key = number_key(&seq);
    MDB_val value = {event->record->size, NULL};
    int rc = mdb_put(txn, store->dbs[DB_EVENTS], &key, &value, MDB_APPEND | MDB_RESERVE);

    if (rc == 0)
        memcpy(value.mv_data, event->record, event->record->size);
    return rc;
}

int store_put_marks(struct store *store, MDB_txn *txn, uint64_t key_number,
                    const struct store_mark *marks, size_t count)
{
    MDB_val key = number_key(&key_number);
    MDB_val value = {count * sizeof(*marks), (void *)(uintptr_t)marks};

    return mdb_put(txn, store->dbs[DB_MARKS], &key, &value, MDB_APPEND);
}

int store_put_cursor(struct store *store, MDB_txn *txn, const char *name, uint64_t seq)
{
    MDB_val key = text_key(name);
    MDB_val value = {sizeof(seq), &seq};

    return mdb_put(txn, store->dbs[DB_CURSORS], &key, &value, 0);
}

int store_delete_events(struct store *store, MDB_txn *txn, uint64_t last_seq, bool for_space,
                        uint32_t now_s, uint32_t retention_s, size_t limit, size_t *out_deleted)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, store->dbs[DB_EVENTS], &cursor);

    *out_deleted = 0;
    if (rc != 0)
        return rc;
    while (*out_deleted < limit && (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0) {
        uint64_t seq;

        memcpy(&seq, key.mv_data, sizeof(seq));
        if (seq > last_seq || (!for_space && now_s - age_of_event(&value) <= retention_s))
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc != 0)
            break;
        (*out_deleted)++;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_delete_marks(struct store *store, MDB_txn *txn, uint32_t now_s, uint32_t window_s,
                       uint64_t mark_count, uint64_t max_marks, size_t limit, uint64_t *out_deleted)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, store->dbs[DB_MARKS], &cursor);

    *out_deleted = 0;
    if (rc != 0)
        return rc;
    for (; limit > 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0; limit--) {
        uint64_t here = value.mv_size / sizeof(struct store_mark);

        if (now_s - time_of_marks(&value) <= window_s &&
            mark_count - *out_deleted < max_marks + here)
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc != 0)
            break;
        *out_deleted += here;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_load_marks(struct store *store,
                     void (*visit)(void *context, const struct store_mark *mark), void *context,
                     struct error *err)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return store_error(err, rc, "read the dedupe marks");
    rc = mdb_cursor_open(txn, store->dbs[DB_MARKS], &cursor);
    store->mark_count = 0;
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        size_t count = value.mv_size / sizeof(struct store_mark);

        for (size_t i = 0; i < count; i++) {
            struct store_mark mark;

            memcpy(&mark, (const char *)value.mv_data + i * sizeof(mark), sizeof(mark));
            visit(context, &mark);
        }
        store->mark_count += count;
    }
    mdb_txn_abort(txn); /* a cursor of a read-only transaction outlives it */
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : store_error(err, rc, "read the dedupe marks");
}
