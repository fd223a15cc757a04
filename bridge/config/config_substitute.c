#include "bridge/config/config_substitute.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_values.h"

enum { SECRET_FILE_MAX = 64 * 1024 };

static bool is_name(struct text name)
{
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';

        if (!is_letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.size > 0;
}

static int append_variable(struct buf *out, const char *name, struct error *err)
{
    const char *value;

    /* Not shown: it may be a part of a password. */
    if (!is_name(text_of(name)))
        return error_set(err, ERROR_CONFIG,
                         "what stands between ${ and } is not understood: write ${NAME}, "
                         "${file:PATH}, ${credential:NAME}, or $${ for a literal ${");
    value = getenv(name);
    if (!value)
        return error_set(err, ERROR_CONFIG, "the environment variable %.128s is not set", name);
    buf_append_string(out, value);
    return 0;
}

/* Reads to the end of `fd`; -1 with errno, also for a file that is too large. */
static int read_all(int fd, struct buf *out)
{
    while (out->size <= SECRET_FILE_MAX) {
        ssize_t size;

        if (!buf_reserve(out, SECRET_FILE_MAX + 1)) {
            errno = ENOMEM;
            return -1;
        }
        size = read(fd, out->data + out->size, SECRET_FILE_MAX + 1);
        if (size == 0)
            return 0;
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return -1;
        out->size += (size_t)size;
    }
    errno = EFBIG;
    return -1;
}

/* Opens a regular file only: a pipe would block for ever. */
static int open_regular(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        return fd;
    close(fd);
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    return -1;
}

static void wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->capacity);
    buf_release(buf);
}

static int append_file(struct buf *out, const char *name, const char *directory, struct error *err)
{
    char *path = config_value_path(name, directory);
    int fd = path ? open_regular(path) : -1;
    struct buf content = {0};
    int rc = -1;

    if (fd < 0 || read_all(fd, &content) != 0) {
        error_set(err, ERROR_CONFIG, "cannot read the file %.200s: %s", path ? path : name,
                  strerror(errno));
        goto out;
    }
    if (content.size && memchr(content.data, 0, content.size)) {
        error_set(err, ERROR_CONFIG, "the file %.200s holds a NUL byte", path);
        goto out;
    }
    if (content.size && content.data[content.size - 1] == '\n')
        content.size--;
    buf_append_text(out, buf_text(&content));
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    free(path);
    wipe(&content);
    return rc;
}

/* A credential of systemd's: a file of that name in the folder that it names. */
static int append_credential(struct buf *out, const char *name, struct error *err)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");

    if (strchr(name, '/'))
        return error_set(err, ERROR_CONFIG, "the name of the credential %.128s holds a /", name);
    if (!directory)
        return error_set(err, ERROR_CONFIG,
                         "the credential %.128s cannot be read: CREDENTIALS_DIRECTORY is not set, "
                         "as systemd does for LoadCredential=",
                         name);
    return append_file(out, name, directory, err);
}

/* Appends what stands for the reference that `text` begins with, behind its "${". */
static int append_reference(struct buf *out, struct text inside, const char *directory,
                            struct error *err)
{
    char *name = text_dup(inside);
    int rc;

    if (!name)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (text_starts_with(inside, "file:") && inside.size > 5)
        rc = append_file(out, name + 5, directory, err);
    else if (text_starts_with(inside, "credential:") && inside.size > 11)
        rc = append_credential(out, name + 11, err);
    else
        rc = append_variable(out, name, err);
    free(name);
    return rc;
}

static int expand(const char *text, const char *directory, struct buf *out, bool *out_from_outside,
                  struct error *err)
{
    while (*text) {
        const char *end;

        if (strncmp(text, "$${", 3) == 0) {
            buf_append_string(out, "${");
            text += 3;
            continue;
        }
        if (strncmp(text, "${", 2) != 0) {
            buf_append_char(out, *text++);
            continue;
        }
        end = strchr(text, '}');
        if (!end)
            return error_set(err, ERROR_CONFIG,
                             "a ${ has no closing brace; write $${ for a literal ${");
        if (append_reference(out, (struct text){text + 2, (size_t)(end - text - 2)}, directory,
                             err) != 0)
            return -1;
        *out_from_outside = true;
        text = end + 1;
    }
    return out->failed ? error_set(err, ERROR_FATAL, "out of memory") : 0;
}

static void substitute_scalar(struct config_node *node, const char *directory,
                              struct config_report *report)
{
    struct error err = {0};
    struct buf out = {0};
    bool is_from_outside = false;
    char *text = NULL;

    if (!strstr(node->text, "${"))
        return;
    if (expand(node->text, directory, &out, &is_from_outside, &err) == 0)
        text = text_dup(buf_text(&out));
    wipe(&out);
    if (!text) {
        config_report_mistake(report, node, NULL, "%s", err.kind ? err.message : "out of memory");
        node->is_broken = true;
        return;
    }
    free(node->text);
    node->text = text;
    node->is_substituted = is_from_outside;
}

void config_substitute(struct config_node *root, const char *directory,
                       struct config_report *report)
{
    if (root->kind == NODE_SCALAR)
        substitute_scalar(root, directory, report);
    for (size_t i = 0; i < root->count; i++)
        config_substitute(root->items[i], directory, report);
}
