#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_store.h"

/*
 * A file that says that the journal was closed in order, and what its file looked like then. It is
 * there only while nobody has the journal open; without it, or when the file is another one by now,
 * the next start verifies before it reads.
 */

enum { MARKER_SIZE = 160 };

static const char data_name[] = "data.mdb";
static const char marker_name[] = "clean";
static const char new_name[] = "clean.new";

/* What the marker has to say. False: there is no file. */
static bool describe(int dir_fd, char *out)
{
    struct stat st;

    if (fstatat(dir_fd, data_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    snprintf(out, MARKER_SIZE,
             "closed in order: %" PRIu64 " bytes, file %" PRIu64 " of %lld.%09ld\n",
             (uint64_t)st.st_size, (uint64_t)st.st_ino, (long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec);
    return true;
}

static bool write_marker(const struct store *store, const char *text)
{
    size_t size = strlen(text);
    int fd = openat(store->dir_fd, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                    0600);
    bool is_written;

    if (fd < 0)
        return false;
    is_written = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    close(fd);
    return is_written;
}

void store_mark_clean(const struct store *store)
{
    char text[MARKER_SIZE];

    if (describe(store->dir_fd, text) && write_marker(store, text) &&
        renameat(store->dir_fd, new_name, store->dir_fd, marker_name) == 0)
        fsync(store->dir_fd);
}

int store_unmark(const struct store *store, struct error *err)
{
    if (unlinkat(store->dir_fd, marker_name, 0) < 0)
        return errno == ENOENT
                   ? 0
                   : error_set(err, ERROR_TRANSIENT, "journal %s: cannot remove the file %s: %s",
                               store->path, marker_name, strerror(errno));
    if (fsync(store->dir_fd) < 0)
        return error_set(err, ERROR_TRANSIENT, "journal %s: cannot sync the folder: %s",
                         store->path, strerror(errno));
    return 0;
}

bool store_is_clean(const char *path)
{
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int fd = dir_fd < 0 ? -1 : openat(dir_fd, marker_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char wanted[MARKER_SIZE] = "";
    char found[MARKER_SIZE] = "";
    bool is_clean = fd >= 0 && read(fd, found, sizeof(found) - 1) > 0 && describe(dir_fd, wanted) &&
                    strcmp(found, wanted) == 0;

    if (fd >= 0)
        close(fd);
    if (dir_fd >= 0)
        close(dir_fd);
    return is_clean;
}
