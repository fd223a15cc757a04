#include "bridge/runtime/durable_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_reader.h"

char *durable_file_path(const char *journal_path, const char *suffix)
{
    size_t size = strlen(journal_path);
    struct buf path = {0};

    while (size > 1 && journal_path[size - 1] == '/')
        size--;
    buf_printf(&path, "%.*s%s", (int)size, journal_path, suffix);
    return path.data;
}

static int io_error(const struct durable_file *file, const char *what, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT, "%s %s: cannot %s: %s", file->name, file->path, what,
                     strerror(errno));
}

/* ---- reading ---- */

static int check_owner(const struct durable_file *file, int fd, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return io_error(file, "look at it", err);
    if (!S_ISREG(info.st_mode))
        return error_set(err, ERROR_CONFIG, "%s %s is not a file", file->name, file->path);
    if (info.st_uid != geteuid())
        return error_set(err, ERROR_CONFIG,
                         "%s %s belongs to another user (%u): the bridge has to own it", file->name,
                         file->path, (unsigned)info.st_uid);
    if (info.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, ERROR_CONFIG,
                         "%s %s is the bridge's alone and is open to others (mode %03o): chmod 600 "
                         "it",
                         file->name, file->path, (unsigned)(info.st_mode & 0777));
    if (info.st_size > DURABLE_FILE_MAX)
        return error_set(err, ERROR_CONFIG, "%s %s is larger than %d bytes", file->name, file->path,
                         DURABLE_FILE_MAX);
    return 0;
}

static int read_content(const struct durable_file *file, int fd, struct buf *out, struct error *err)
{
    ssize_t size = 1;

    if (!buf_reserve(out, DURABLE_FILE_MAX + JSON_PADDING))
        return error_set(err, ERROR_FATAL, "%s %s: out of memory", file->name, file->path);
    while (size > 0 && out->size < DURABLE_FILE_MAX) {
        size = read(fd, out->data + out->size, DURABLE_FILE_MAX - out->size);
        if (size > 0)
            out->size += (size_t)size;
        else if (size < 0 && errno == EINTR)
            size = 1;
    }
    if (size < 0)
        return io_error(file, "read it", err);
    memset(out->data + out->size, 0, JSON_PADDING);
    return 0;
}

int durable_file_read(const struct durable_file *file, struct buf *out, bool *out_exists,
                      struct error *err)
{
    int fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc;

    *out_exists = fd >= 0 || errno != ENOENT;
    if (!*out_exists)
        return 0;
    if (fd < 0)
        return io_error(file, errno == ELOOP ? "follow the symbolic link that it is" : "open it",
                        err);
    rc = check_owner(file, fd, err);
    if (rc == 0)
        rc = read_content(file, fd, out, err);
    close(fd);
    return rc;
}

int durable_file_set_aside(const struct durable_file *file, int64_t now_ms,
                           char out_aside[DURABLE_FILE_PATH_SIZE], struct error *err)
{
    snprintf(out_aside, DURABLE_FILE_PATH_SIZE, "%s.damaged-%" PRId64, file->path, now_ms / 1000);
    if (rename(file->path, out_aside) != 0)
        return io_error(file, "set it aside, for it is damaged", err);
    return 0;
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

bool durable_file_sync_folder(const char *path)
{
    char *folder = alloc_string(path);
    char *slash = strrchr(folder, '/');
    bool is_synced;
    int fd;

    if (slash)
        slash[slash == folder] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return false;
    is_synced = fsync(fd) == 0;
    close(fd);
    return is_synced;
}

int durable_file_write(const struct durable_file *file, struct text content, struct error *err)
{
    char fresh[DURABLE_FILE_PATH_SIZE];
    int rc = -1;
    int fd;

    snprintf(fresh, sizeof(fresh), "%s.new", file->path);
    unlink(fresh);
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_error(file, "write it", err);
    if (write_all(fd, content.data, content.size) < 0 || fsync(fd) != 0)
        io_error(file, "write it", err);
    else if (rename(fresh, file->path) != 0)
        io_error(file, "replace it", err);
    else
        rc = 0;
    close(fd);
    if (rc < 0) {
        unlink(fresh);
        return -1;
    }
    return durable_file_sync_folder(file->path) ? 0 : io_error(file, "sync its folder", err);
}
