#include "bridge/journal/journal_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include "bridge/base/error.h"

enum { META_BYTES = 64 * 1024 }; /* the two meta pages, whatever the page size */

static const char data_name[] = "data.mdb"; /* LMDB's own names */
static const char mdb_lock_name[] = "lock.mdb";
static const char new_name[] = "new.mdb";
static const char new_lock_name[] = "new.mdb-lock";
static const char lock_name[] = "pid";

const char *const store_db_names[STORE_DB_COUNT] = {
    [STORE_META] = "meta",   [STORE_EVENTS] = "events", [STORE_CURSORS] = "cursors",
    [STORE_MARKS] = "marks", [STORE_PARKED] = "parked", [STORE_DEAD] = "dead"};

bool store_has_integer_keys(enum store_db db)
{
    return db == STORE_EVENTS || db == STORE_MARKS || db == STORE_DEAD;
}

int store_error(const struct store *store, const char *what, int rc, struct error *err)
{
    enum error_kind kind = rc == ENOMEM ? ERROR_FATAL : ERROR_TRANSIENT;

    return error_set(err, kind, "journal %s: %s: %s", store->path, what, mdb_strerror(rc));
}

static int system_error(const struct store *store, const char *what, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT, "journal %s: %s: %s", store->path, what,
                     strerror(errno));
}

/* Makes the name of a new directory durable: LMDB and mkdir() leave that to others. */
static int sync_parent(const struct store *store, struct error *err)
{
    int fd = openat(store->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0 || fsync(fd) < 0)
        rc = system_error(store, "cannot sync the folder above it", err);
    if (fd >= 0)
        close(fd);
    return rc;
}

/*
 * The directory must be ours. One that is open to others is closed to them when it already holds a
 * journal (an orchestrator may have widened it); a foreign one that others may write to is refused.
 */
static int check_directory(const struct store *store, bool is_new, struct error *err)
{
    struct stat st;

    if (fstat(store->dir_fd, &st) < 0)
        return system_error(store, "cannot be examined", err);
    if (st.st_uid != geteuid())
        return error_set(err, ERROR_CONFIG,
                         "journal %s: the folder belongs to user %u, not to user %u who runs this",
                         store->path, (unsigned)st.st_uid, (unsigned)geteuid());
    if (!(st.st_mode & 077))
        return 0;
    if (is_new || faccessat(store->dir_fd, data_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        if (fchmod(store->dir_fd, 0700) < 0)
            return system_error(store, "cannot be closed to other users", err);
        return 0;
    }
    if (st.st_mode & 022)
        return error_set(err, ERROR_CONFIG,
                         "journal %s: other users may write to the folder; give the journal a "
                         "folder of its own or chmod 700 this one",
                         store->path);
    return 0;
}

static int open_directory(struct store *store, struct error *err)
{
    bool is_new = mkdir(store->path, 0700) == 0;
    struct stat st;

    if (!is_new && errno != EEXIST)
        return error_set(err, ERROR_CONFIG, "journal %s: cannot make the folder: %s%s", store->path,
                         strerror(errno),
                         errno == ENOENT ? "; the folder that is to hold it must be there" : "");
    store->dir_fd = open(store->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (store->dir_fd < 0 && lstat(store->path, &st) == 0 && S_ISLNK(st.st_mode))
        return error_set(err, ERROR_CONFIG,
                         "journal %s: is a symbolic link; name the folder itself", store->path);
    if (store->dir_fd < 0)
        return error_set(err, ERROR_CONFIG, "journal %s: is not a folder that can be opened: %s",
                         store->path, strerror(errno));
    if (check_directory(store, is_new, err) < 0)
        return -1;
    return is_new ? sync_parent(store, err) : 0;
}

/* A file that exists must be a plain file of ours; others lose their access to it. */
static int check_file(const struct store *store, const char *name, struct error *err)
{
    struct stat st;

    if (fstatat(store->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : system_error(store, name, err);
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
        return error_set(err, ERROR_CONFIG,
                         "journal %s: %s is not a plain file of the user who runs this",
                         store->path, name);
    if ((st.st_mode & 077) && fchmodat(store->dir_fd, name, 0600, 0) < 0)
        return system_error(store, name, err);
    return 0;
}

static int refuse_second(const struct store *store, struct error *err)
{
    char pid[32] = "";
    ssize_t n = pread(store->lock_fd, pid, sizeof(pid) - 1, 0);

    pid[n > 0 ? n : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    return error_set(err, ERROR_IN_USE,
                     "journal %s: is in use by process %s, which has to stop first", store->path,
                     *pid ? pid : "(unknown)");
}

/* The lock belongs to the open file: it goes with the process, however that ends. */
static int take_lock(struct store *store, struct error *err)
{
    char pid[32];
    int length = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

    if (check_file(store, lock_name, err) < 0)
        return -1;
    store->lock_fd =
        openat(store->dir_fd, lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        return error_set(err, ERROR_CONFIG, "journal %s: cannot open its lock file: %s",
                         store->path, strerror(errno));
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? refuse_second(store, err)
                                    : system_error(store, "cannot be locked", err);
    if (ftruncate(store->lock_fd, 0) < 0 ||
        pwrite(store->lock_fd, pid, (size_t)length, 0) != length)
        return system_error(store, "cannot write its lock file", err);
    return 0;
}

int store_lock(struct store *store, const char *path, struct error *err)
{
    *store = (struct store){.dir_fd = -1, .lock_fd = -1};
    pthread_rwlock_init(&store->gate, NULL);
    store->path = strdup(path);
    if (!store->path)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (open_directory(store, err) < 0 || take_lock(store, err) < 0 ||
        check_file(store, data_name, err) < 0)
        return -1;
    return 0;
}

int store_open(struct store *store, const char *path, uint64_t max_size, struct error *err)
{
    int rc = store_lock(store, path, err);

    store_plan_space(store, max_size);
    return rc < 0 || store_unmark(store, err) < 0 ? -1 : store_open_env(store, err);
}

void store_release(struct store *store)
{
    store_close_env(store);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    if (store->dir_fd >= 0)
        close(store->dir_fd);
    pthread_rwlock_destroy(&store->gate);
    free(store->path);
}

void store_close_env(struct store *store)
{
    pthread_rwlock_wrlock(&store->gate);
    mdb_env_close(store->env);
    store->env = NULL;
    pthread_rwlock_unlock(&store->gate);
}

/*
 * Writes the meta pages as they read now to the disk. A meta page whose write failed may be on the
 * disk although LMDB took it back in the page cache, or the other way round; before pages are
 * reused on the strength of what is read, both must be the same.
 */
static int settle_meta_pages(const struct store *store, struct error *err)
{
    char *bytes = malloc(META_BYTES);
    int fd = openat(store->dir_fd, data_name, O_RDWR | O_DSYNC | O_NOFOLLOW | O_CLOEXEC);
    ssize_t size;
    int rc = -1;

    if (!bytes) {
        error_set(err, ERROR_FATAL, "out of memory");
        goto out;
    }
    if (fd < 0) {
        system_error(store, "cannot open data.mdb", err);
        goto out;
    }
    size = pread(fd, bytes, META_BYTES, 0);
    if (size < 0 || pwrite(fd, bytes, (size_t)size, 0) != size || fsync(fd) < 0)
        system_error(store, "cannot sync data.mdb", err);
    else
        rc = 0;
out:
    if (fd >= 0)
        close(fd);
    free(bytes);
    return rc;
}

static int open_dbs(struct store *store, MDB_env *env)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    if (rc != 0)
        return rc;
    for (int i = 0; i < STORE_DB_COUNT && rc == 0; i++)
        rc = mdb_dbi_open(txn, store_db_names[i],
                          MDB_CREATE |
                              (store_has_integer_keys((enum store_db)i) ? MDB_INTEGERKEY : 0),
                          &store->db[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    store_measure(store, txn);
    return mdb_txn_commit(txn);
}

/* LMDB keeps this descriptor open across exec() for its users' sake. */
static void close_on_exec(MDB_env *env)
{
    int fd;

    if (mdb_env_get_fd(env, &fd) == 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* A smaller max_size than before does not take away the room that deletions need. */
static int widen_map(struct store *store, MDB_env *env)
{
    MDB_envinfo info;
    uint64_t written;

    mdb_env_info(env, &info);
    written = ((uint64_t)info.me_last_pgno + 1) * store->page_size;
    if (written + store->reserve / 2 <= store->map_size)
        return 0;
    store->map_size = written + store->reserve;
    return mdb_env_set_mapsize(env, store->map_size);
}

static int open_mdb(struct store *store, MDB_env *env, const char *path, unsigned flags)
{
    int rc = mdb_env_set_mapsize(env, store->map_size);

    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, STORE_DB_COUNT);
    if (rc == 0)
        rc = mdb_env_open(env, path, flags | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (rc == 0)
        rc = widen_map(store, env);
    if (rc == 0)
        rc = mdb_reader_check(env, NULL);
    if (rc == 0)
        close_on_exec(env);
    return rc;
}

/* Where the file's blocks end: up to its size, once the holes a copy may have made are filled. */
static void note_file_size(struct store *store, int fd)
{
    struct stat st;

    store->allocated = 0;
    if (fstat(fd, &st) < 0 || st.st_size <= 0)
        return;
    if (st.st_blocks * 512 >= st.st_size || fallocate(fd, 0, 0, st.st_size) == 0)
        store->allocated = (uint64_t)st.st_size;
}

static void publish_env(struct store *store, MDB_env *env)
{
    int fd;

    pthread_rwlock_wrlock(&store->gate);
    store->env = env;
    pthread_rwlock_unlock(&store->gate);
    store->next_try_ms = INT64_MIN;
    store_measure_file(store);
    if (mdb_env_get_fd(env, &fd) == 0)
        note_file_size(store, fd);
}

static void remove_new(const struct store *store)
{
    unlinkat(store->dir_fd, new_name, 0);
    unlinkat(store->dir_fd, new_lock_name, 0);
}

/* An LMDB code. */
static int make_new(struct store *store, const char *path)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);

    if (rc == 0)
        rc = open_mdb(store, env, path, MDB_NOSUBDIR);
    if (rc == 0)
        rc = open_dbs(store, env); /* whose commit syncs all */
    mdb_env_close(env);
    if (rc == 0 && renameat(store->dir_fd, new_name, store->dir_fd, data_name) < 0)
        rc = errno;
    return rc;
}

/*
 * LMDB writes the first pages of a new file without syncing them: a power cut may leave half of
 * them, which it takes for damage for ever after. So the file is made under another name and gets
 * its own when it is whole.
 */
static int make_data_file(struct store *store, struct error *err)
{
    size_t size = strlen(store->path) + sizeof(new_name) + 1;
    char *path;
    int rc;

    if (faccessat(store->dir_fd, data_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    path = malloc(size);
    if (!path)
        return error_set(err, ERROR_FATAL, "out of memory");
    snprintf(path, size, "%s/%s", store->path, new_name);
    remove_new(store); /* what an earlier start may have left */
    rc = make_new(store, path);
    remove_new(store);
    free(path);
    return rc == 0 ? 0 : store_error(store, "cannot be made", rc, err);
}

int store_open_env(struct store *store, struct error *err)
{
    MDB_env *env = NULL;
    int rc;

    if (check_file(store, data_name, err) < 0 || check_file(store, mdb_lock_name, err) < 0 ||
        make_data_file(store, err) < 0 || settle_meta_pages(store, err) < 0)
        return -1;
    rc = mdb_env_create(&env);
    if (rc == 0)
        rc = open_mdb(store, env, store->path, 0);
    if (rc == 0)
        rc = open_dbs(store, env);
    if (rc != 0) {
        mdb_env_close(env);
        if (rc == MDB_INVALID || rc == MDB_CORRUPTED || rc == MDB_VERSION_MISMATCH)
            return error_set(err, ERROR_CONFIG,
                             "journal %s: data.mdb is damaged or not a journal (%s): see "
                             "close-bridge journal --help",
                             store->path, mdb_strerror(rc));
        return store_error(store, "cannot be opened", rc, err);
    }
    if (fsync(store->dir_fd) < 0) {
        mdb_env_close(env);
        return system_error(store, "cannot sync the folder", err);
    }
    publish_env(store, env);
    return 0;
}

struct MDB_txn *store_begin_read(struct store *store, struct error *err)
{
    MDB_txn *txn;
    int rc;

    if (pthread_rwlock_tryrdlock(&store->gate) != 0) {
        error_set(err, ERROR_TRANSIENT, "journal %s: is being opened again", store->path);
        return NULL;
    }
    if (!store->env) {
        error_set(err, ERROR_TRANSIENT, "journal %s: is not open", store->path);
        pthread_rwlock_unlock(&store->gate);
        return NULL;
    }
    rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        store_error(store, "cannot be read", rc, err);
        pthread_rwlock_unlock(&store->gate);
        return NULL;
    }
    return txn;
}

void store_end_read(struct store *store, struct MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&store->gate);
}
