#include "tests/faults/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/*
 * Everything goes to the kernel by syscall(), so that nothing here depends on what else is
 * preloaded. While a trace is written, one lock orders the operations.
 */

enum { MAX_FD = 4096, MAX_FILES = 1024 };

/* An open descriptor under the folder. */
struct tracked {
    bool is_ours;
    bool is_dir;
    bool is_dsync;
    bool has_failed; /* a sync failed on it */
    uint32_t file;
};

static struct {
    char folder[PATH_MAX];
    size_t folder_size;
    struct shim_control *control;
    int trace_fd;
    pthread_mutex_t lock;
    struct tracked fds[MAX_FD];
    ino_t inodes[MAX_FILES]; /* lock: lock */
    uint32_t file_count;     /* lock: lock */
} shim = {.trace_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static struct shim_control idle;

/* ---- the start ---- */

static int raw_open(const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void *map_control(const char *path)
{
    int fd = raw_open(path, O_RDWR | O_CREAT, 0600);
    void *memory = MAP_FAILED;

    if (fd >= 0 && syscall(SYS_ftruncate, fd, (long)sizeof(struct shim_control)) == 0)
        memory = (void *)syscall(SYS_mmap, NULL, sizeof(struct shim_control),
                                 PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        syscall(SYS_close, fd);
    return memory == MAP_FAILED ? &idle : memory;
}

static void __attribute__((constructor)) start(void)
{
    const char *folder = getenv("FAULT_FOLDER");
    const char *control = getenv("FAULT_CONTROL");
    const char *trace = getenv("FAULT_TRACE");

    shim.control = control ? map_control(control) : &idle;
    if (!folder || !realpath(folder, shim.folder))
        return;
    shim.folder_size = strlen(shim.folder);
    if (trace)
        shim.trace_fd = raw_open(trace, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

/* ---- the trace ---- */

static void lock(void)
{
    if (shim.trace_fd >= 0)
        pthread_mutex_lock(&shim.lock);
}

static void unlock(void)
{
    if (shim.trace_fd >= 0)
        pthread_mutex_unlock(&shim.lock);
}

static void trace(enum trace_kind kind, uint32_t file, uint64_t offset, const void *bytes,
                  size_t size)
{
    struct trace_entry entry = {(uint32_t)kind, file, offset, size};
    struct iovec parts[2] = {{&entry, sizeof(entry)}, {(void *)(uintptr_t)bytes, size}};

    if (shim.trace_fd >= 0 &&
        syscall(SYS_writev, shim.trace_fd, parts, 2) != (long)(sizeof(entry) + size))
        abort(); /* half a trace proves nothing */
}

static void trace_name(enum trace_kind kind, uint32_t file, const char *name)
{
    trace(kind, file, 0, name, strlen(name));
}

void shim_mark(const char *text)
{
    lock();
    trace(TRACE_MARK, 0, 0, text, strlen(text));
    unlock();
}

/* ---- which files are ours ---- */

static bool ends_in(const char *path, const char *end)
{
    size_t size = strlen(path);

    return size >= strlen(end) && strcmp(path + size - strlen(end), end) == 0;
}

/* The part of an absolute path under the folder; NULL when it lies elsewhere or does not count. */
static const char *name_of(const char *path)
{
    if (!shim.folder_size || strncmp(path, shim.folder, shim.folder_size) != 0)
        return NULL;
    if (path[shim.folder_size] != '/' && path[shim.folder_size] != '\0')
        return NULL;
    if (ends_in(path, "/lock.mdb") || ends_in(path, ".mdb-lock"))
        return NULL;
    path += shim.folder_size;
    return *path == '/' ? path + 1 : path;
}

/* Absolute, though the last part need not exist. False when it cannot be told. */
static bool full_path(int dir_fd, const char *path, char *out)
{
    char link[64];
    ssize_t size;

    if (*path == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return true;
    }
    if (dir_fd == AT_FDCWD)
        snprintf(link, sizeof(link), "/proc/self/cwd");
    else
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
    size = readlink(link, out, PATH_MAX - 1);
    if (size <= 0)
        return false;
    snprintf(out + size, PATH_MAX - (size_t)size, "/%s", path);
    return true;
}

/* `out` holds the path, the name points into it. */
static const char *name_at(int dir_fd, const char *path, char *out)
{
    return shim.folder_size && full_path(dir_fd, path, out) ? name_of(out) : NULL;
}

/* A file that is new gets a number of its own although the inode may have been another's. */
static uint32_t file_of(ino_t inode, bool is_new)
{
    for (uint32_t i = 0; i < shim.file_count; i++) {
        if (shim.inodes[i] == inode && !is_new)
            return i;
        if (shim.inodes[i] == inode)
            shim.inodes[i] = 0;
    }
    if (shim.file_count == MAX_FILES)
        abort();
    shim.inodes[shim.file_count] = inode;
    return shim.file_count++;
}

static struct tracked *tracked(int fd)
{
    return fd >= 0 && fd < MAX_FD && shim.fds[fd].is_ours ? &shim.fds[fd] : NULL;
}

/* ---- faults ---- */

static void pause_for_sync(void)
{
    uint32_t us = atomic_load(&shim.control->sync_delay_us);
    struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    if (us)
        nanosleep(&time, NULL);
}

/* Whether this call fails; errno is set then, to 0 for a short write. */
static bool fires(enum shim_call call)
{
    struct shim_control *control = shim.control;
    int32_t left = atomic_load(&control->countdown);

    atomic_fetch_add(&control->count[call], 1);
    if (left <= 0 || !(atomic_load(&control->calls) & (1U << call)))
        return false;
    if (left > 1) {
        atomic_store(&control->countdown, left - 1);
        return false;
    }
    if (!atomic_load(&control->for_ever))
        atomic_store(&control->countdown, 0);
    atomic_fetch_add(&control->fired, 1);
    errno = atomic_load(&control->error);
    return true;
}

/* ---- opening and names ---- */

static void track(int fd, const char *name, int flags, bool is_new)
{
    struct stat st;

    if (fd < 0 || fd >= MAX_FD || fstat(fd, &st) < 0)
        return;
    shim.fds[fd] = (struct tracked){
        .is_ours = true,
        .is_dir = S_ISDIR(st.st_mode),
        .is_dsync = (flags & (O_DSYNC | O_SYNC)) != 0,
        .file = file_of(st.st_ino, is_new),
    };
    if (is_new)
        trace_name(TRACE_CREATE, shim.fds[fd].file, name);
    else if (flags & O_TRUNC)
        trace(TRACE_RESIZE, shim.fds[fd].file, 0, NULL, 0);
}

static int open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    const char *name = name_at(dir_fd, path, full);
    bool is_new;
    int fd;

    if (!name)
        return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
    if (fires(SHIM_OPEN))
        return -1;
    lock();
    is_new = (flags & O_CREAT) && faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
    fd = (int)syscall(SYS_openat, dir_fd, path, flags, mode);
    track(fd, name, flags, is_new);
    unlock();
    return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
}

/* libc's headers use reserved names for the parameters.
 * NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

int open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dir_fd, const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(dir_fd, path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < MAX_FD)
        shim.fds[fd].is_ours = false;
    return (int)syscall(SYS_close, fd);
}

static int traced_mkdir(int dir_fd, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    const char *name = name_at(dir_fd, path, full);
    int rc;

    lock();
    rc = (int)syscall(SYS_mkdirat, dir_fd, path, mode);
    if (rc == 0 && name)
        trace_name(TRACE_MAKE_DIR, 0, name);
    unlock();
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    return traced_mkdir(AT_FDCWD, path, mode);
}

int mkdirat(int dir_fd, const char *path, mode_t mode)
{
    return traced_mkdir(dir_fd, path, mode);
}

static void trace_rename(const char *from, const char *to)
{
    char both[2 * PATH_MAX];
    size_t size = strlen(from) + 1;

    memcpy(both, from, size);
    memcpy(both + size, to, strlen(to));
    trace(TRACE_RENAME, 0, 0, both, size + strlen(to));
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    char full_from[PATH_MAX];
    char full_to[PATH_MAX];
    const char *from_name = name_at(from_fd, from, full_from);
    const char *to_name = name_at(to_fd, to, full_to);
    int rc;

    lock();
    rc = (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    if (rc == 0 && from_name && to_name)
        trace_rename(from_name, to_name);
    unlock();
    return rc;
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int dir_fd, const char *path, int flags)
{
    char full[PATH_MAX];
    const char *name = name_at(dir_fd, path, full);
    int rc;

    lock();
    rc = (int)syscall(SYS_unlinkat, dir_fd, path, flags);
    if (rc == 0 && name)
        trace_name(TRACE_UNLINK, 0, name);
    unlock();
    return rc;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

/* ---- writing ---- */

static ssize_t write_at(int fd, const void *bytes, size_t size, off_t offset)
{
    const struct tracked *file = tracked(fd);
    ssize_t n;

    if (!file)
        return syscall(SYS_pwrite64, fd, bytes, size, offset);
    if (file->is_dsync)
        pause_for_sync();
    if (fires(file->is_dsync ? SHIM_META : SHIM_WRITE)) {
        if (errno)
            return -1;
        size /= 2;
    }
    lock();
    n = syscall(SYS_pwrite64, fd, bytes, size, offset);
    if (n > 0)
        trace(file->is_dsync ? TRACE_WRITE_SYNCED : TRACE_WRITE, file->file, (uint64_t)offset,
              bytes, (size_t)n);
    unlock();
    return n;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return write_at(fd, bytes, size, offset);
}

/* In one piece, so that one call stays one operation. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset)
{
    size_t size = 0;
    char *bytes;
    ssize_t n;

    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    bytes = malloc(size ? size : 1);
    if (!bytes) {
        errno = ENOMEM;
        return -1;
    }
    size = 0;
    for (int i = 0; i < count; i++) {
        memcpy(bytes + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    n = write_at(fd, bytes, size, offset);
    free(bytes);
    return n;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (!tracked(fd))
        return syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    return write_parts(fd, parts, count, offset);
}

/* Moves the position behind what was written. */
static ssize_t moved(int fd, off_t offset, ssize_t n)
{
    if (n > 0)
        lseek(fd, offset + n, SEEK_SET);
    return n;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    off_t offset;

    if (!tracked(fd))
        return syscall(SYS_write, fd, bytes, size);
    offset = lseek(fd, 0, SEEK_CUR);
    return moved(fd, offset, write_at(fd, bytes, size, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    off_t offset;

    if (!tracked(fd))
        return syscall(SYS_writev, fd, parts, count);
    offset = lseek(fd, 0, SEEK_CUR);
    return moved(fd, offset, write_parts(fd, parts, count, offset));
}

int ftruncate(int fd, off_t size)
{
    const struct tracked *file = tracked(fd);
    int rc;

    if (file && fires(SHIM_TRUNCATE))
        return -1;
    lock();
    rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0 && file)
        trace(TRACE_RESIZE, file->file, (uint64_t)size, NULL, 0);
    unlock();
    return rc;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    const struct tracked *file = tracked(fd);
    int rc;

    if (file && fires(SHIM_ALLOCATE))
        return -1;
    lock();
    rc = (int)syscall(SYS_fallocate, fd, mode, offset, size);
    if (rc == 0 && file && mode == 0)
        trace(TRACE_EXTEND, file->file, (uint64_t)(offset + size), NULL, 0);
    unlock();
    return rc;
}

/* ---- syncing ---- */

static const char *name_of_dir(int fd, char *out)
{
    char link[64];
    ssize_t size;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    size = readlink(link, out, PATH_MAX - 1);
    out[size > 0 ? size : 0] = '\0';
    return name_of(out);
}

static void trace_sync(int fd, const struct tracked *file)
{
    char path[PATH_MAX];
    const char *name = file->is_dir ? name_of_dir(fd, path) : NULL;

    if (name)
        trace_name(TRACE_SYNC_DIR, 0, name);
    else if (!file->is_dir)
        trace(TRACE_SYNC, file->file, 0, NULL, 0);
}

static int sync_fd(int fd, long call)
{
    struct tracked *file = tracked(fd);
    int rc;

    if (!file)
        return (int)syscall(call, fd);
    pause_for_sync();
    if (file->has_failed)
        atomic_fetch_add(&shim.control->synced_again, 1);
    if (fires(file->is_dir ? SHIM_DIR_SYNC : SHIM_SYNC)) {
        file->has_failed = true;
        errno = errno ? errno : EIO;
        return -1;
    }
    lock();
    rc = (int)syscall(call, fd);
    if (rc == 0)
        trace_sync(fd, file);
    unlock();
    return rc;
}

int fdatasync(int fd)
{
    return sync_fd(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return sync_fd(fd, SYS_fsync);
}

/* What is written through a mapping is not seen here: counted, so that a test can insist on none.
 */
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && tracked(fd) && (flags & MAP_SHARED) && (protection & PROT_WRITE))
        atomic_fetch_add(&shim.control->writable_maps, 1);
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

/* The same calls under the names that other compilations use. */
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir_fd, const char *path, int flags, ...) __attribute__((alias("openat")));
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset)
    __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
    __attribute__((alias("pwritev")));
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off_t offset, off_t size) __attribute__((alias("fallocate")));
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));
int __open_2(const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags);

int __open_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir_fd, const char *path, int flags)
{
    return open_at(dir_fd, path, flags, 0);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
