#include "bridge/key_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/key_store_format.h"
#include "bridge/stored_account.h"
#include "schemas/json_reader.h"

enum { MAX_FILE = 4 * 1024 * 1024, PATH_SIZE = 4096 + 64 };

struct key_store {
    const struct clock *clock;
    char *path;
    int lock_fd; /* -1: for reading */
    struct stored_account *records;
    size_t count;
};

/* ---- paths ---- */

/* Returns owned: the path beside the journal, with what comes after ".keys". */
static char *path_beside(const char *journal_path, const char *suffix)
{
    size_t size = strlen(journal_path);
    struct buf path = {0};

    while (size > 1 && journal_path[size - 1] == '/')
        size--;
    buf_printf(&path, "%.*s.keys%s", (int)size, journal_path, suffix);
    return path.data;
}

bool key_store_exists(const char *journal_path)
{
    char *path = path_beside(journal_path, "");
    bool exists = path && access(path, F_OK) == 0;

    free(path);
    return exists;
}

static int io_error(const struct key_store *store, const char *what, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT, "the keys file %s: cannot %s: %s", store->path, what,
                     strerror(errno));
}

/* ---- reading ---- */

static int check_owner(const struct key_store *store, int fd, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return io_error(store, "look at it", err);
    if (!S_ISREG(info.st_mode))
        return error_set(err, ERROR_CONFIG, "the keys file %s is not a file", store->path);
    if (info.st_uid != geteuid())
        return error_set(err, ERROR_CONFIG,
                         "the keys file %s belongs to another user (%u): the bridge has to own it",
                         store->path, (unsigned)info.st_uid);
    if (info.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, ERROR_CONFIG,
                         "the keys file %s holds secrets and is open to others (mode %03o): chmod "
                         "600 it",
                         store->path, (unsigned)(info.st_mode & 0777));
    if (info.st_size > MAX_FILE)
        return error_set(err, ERROR_CONFIG, "the keys file %s is larger than %d bytes", store->path,
                         MAX_FILE);
    return 0;
}

static int read_content(const struct key_store *store, int fd, struct buf *content,
                        struct error *err)
{
    ssize_t size = 1;

    if (!buf_reserve(content, MAX_FILE + JSON_PADDING))
        return error_set(err, ERROR_FATAL, "the keys file %s: out of memory", store->path);
    while (size > 0 && content->size < MAX_FILE) {
        size = read(fd, content->data + content->size, MAX_FILE - content->size);
        if (size > 0)
            content->size += (size_t)size;
        else if (size < 0 && errno == EINTR)
            size = 1;
    }
    if (size < 0)
        return io_error(store, "read it", err);
    memset(content->data + content->size, 0, JSON_PADDING);
    return 0;
}

static int set_aside(struct key_store *store, const struct error *damage, struct error *err)
{
    char aside[PATH_SIZE];

    if (store->lock_fd < 0)
        return error_set(err, ERROR_CONFIG, "the keys file %s: %s", store->path, damage->message);
    snprintf(aside, sizeof(aside), "%s.damaged-%" PRId64, store->path,
             clock_wall_ms(store->clock) / 1000);
    if (rename(store->path, aside) != 0)
        return io_error(store, "set it aside, for it is damaged", err);
    log_error("keys.damaged", log_str("path", store->path), log_str("error", damage->message),
              log_str("set_aside", aside),
              log_str("action", "the next sync asks Close for the keys, or replaces the "
                                "subscriptions"));
    return 0;
}

static int load(struct key_store *store, struct error *err)
{
    int fd = open(store->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct error damage = {0};
    struct buf content = {0};
    int rc;

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return io_error(store, errno == ELOOP ? "follow the symbolic link that it is" : "open it",
                        err);
    rc = check_owner(store, fd, err);
    if (rc == 0)
        rc = read_content(store, fd, &content, err);
    close(fd);
    if (rc == 0 &&
        key_store_parse(buf_text(&content), &store->records, &store->count, &damage) < 0) {
        if (damage.kind == ERROR_INPUT)
            rc = set_aside(store, &damage, err);
        else
            rc = error_set(err, damage.kind, "the keys file %s: %s", store->path, damage.message);
    }
    if (content.data)
        OPENSSL_cleanse(content.data, content.size);
    buf_release(&content);
    return rc;
}

/* ---- writing ---- */

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

static int sync_folder(const struct key_store *store, struct error *err)
{
    char *folder = alloc_string(store->path);
    char *slash = strrchr(folder, '/');
    int fd;
    int rc;

    if (slash)
        slash[slash == folder] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = fd >= 0 && fsync(fd) == 0 ? 0 : io_error(store, "sync its folder", err);
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

static int write_file(const struct key_store *store, struct text content, struct error *err)
{
    char fresh[PATH_SIZE];
    int rc = -1;
    int fd;

    snprintf(fresh, sizeof(fresh), "%s.new", store->path);
    unlink(fresh);
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_error(store, "write it", err);
    if (write_all(fd, content.data, content.size) < 0 || fsync(fd) != 0)
        io_error(store, "write it", err);
    else if (rename(fresh, store->path) != 0)
        io_error(store, "replace it", err);
    else
        rc = 0;
    close(fd);
    if (rc < 0) {
        unlink(fresh);
        return -1;
    }
    return sync_folder(store, err);
}

static int save(const struct key_store *store, const struct stored_account *records, size_t count,
                struct error *err)
{
    struct buf content = {0};
    int rc;

    if (store->lock_fd < 0)
        return error_set(err, ERROR_FATAL, "the keys file %s was opened for reading", store->path);
    key_store_format(records, count, &content);
    rc = content.failed ? error_set(err, ERROR_FATAL, "the keys file: out of memory")
                        : write_file(store, buf_text(&content), err);
    if (content.data)
        OPENSSL_cleanse(content.data, content.capacity);
    buf_release(&content);
    return rc;
}

/* ---- opening and closing ---- */

static int lock(struct key_store *store, const char *journal_path, struct error *err)
{
    char *path = path_beside(journal_path, ".lock");
    int rc = 0;

    store->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        rc = error_set(err, ERROR_CONFIG,
                       "the keys file %s: cannot write beside journal.path: %s; give the journal a "
                       "folder in one that the bridge may write to",
                       store->path, strerror(errno));
    else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
        rc = error_set(err, ERROR_TRANSIENT, "the keys file %s: another close-bridge uses it",
                       store->path);
    free(path);
    return rc;
}

struct key_store *key_store_open(const char *journal_path, enum key_store_use use,
                                 const struct clock *clock, struct error *err)
{
    struct key_store *store = alloc_zeroed(1, sizeof(*store));

    store->clock = clock;
    store->lock_fd = -1;
    store->path = path_beside(journal_path, "");
    if (!store->path)
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
    free(store->path);
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
