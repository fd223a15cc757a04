#include "bridge/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_substitute.h"

enum { FILE_MAX = 1 << 20, THREADS_MAX = 256 };

static void wipe_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* Only the count of a configuration ever changes. */
static struct config *counted(const struct config *config)
{
    return (struct config *)(uintptr_t)config;
}

const struct config *config_ref(const struct config *config)
{
    atomic_fetch_add_explicit(&counted(config)->references, 1, memory_order_relaxed);
    return config;
}

static void release_tls(struct config_tls *tls)
{
    free(tls->certificate);
    free(tls->key);
    free(tls->client_ca);
}

static void release(struct config *config)
{
    free(config->path);
    free(config->listen.host);
    release_tls(&config->listen.tls);
    free(config->listen.health_path);
    free(config->control.host);
    free(config->control.socket_path);
    wipe_free(config->control.token);
    release_tls(&config->control.tls);
    free(config->control.client_certificate);
    free(config->control.client_key);
    free(config->journal.path);
    free(config->dead_letter_topic);
    for (size_t i = 0; i < config->account_count; i++)
        config_account_release(&config->accounts[i]);
    free(config->accounts);
    config_publishers_release(config);
    for (size_t i = 0; i < config->entry_count; i++)
        config_entry_release(&config->entries[i]);
    free(config->entries);
    free(config);
}

void config_free(const struct config *config)
{
    if (config &&
        atomic_fetch_sub_explicit(&counted(config)->references, 1, memory_order_acq_rel) == 1)
        release(counted(config));
}

static uint32_t core_count(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
}

static void load_sections(struct config_loader *loader)
{
    config_directives_default(loader, "", loader->config);
    config_directives_apply(loader, loader->root, "", loader->config);
    if (loader->config->listen.threads == 0) /* cores may come and go, threads do not */
        loader->config->listen.threads =
            loader->in_force ? loader->in_force->listen.threads : core_count();
    loader->config->kafka_options.max_message_bytes = loader->config->listen.max_body + 64 * 1024;
    config_check(loader);
}

/* The folder of `path`: where relative paths begin. Returns owned (free). */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return text_dup(text_of("."));
    return text_dup((struct text){path, slash == path ? 1 : (size_t)(slash - path)});
}

static struct config *parse(const char *path, struct text yaml, const struct config *in_force,
                            struct buf *messages)
{
    struct config_report report = {.file = path};
    struct config *config = calloc(1, sizeof(*config));
    char *directory = directory_of(path);
    struct config_node *root = NULL;

    if (config) {
        atomic_init(&config->references, 1);
        config->path = text_dup(text_of(path));
    }
    if (!config || !config->path || !directory)
        config_report_line(&report, 1, "out of memory");
    else if (yaml.size > FILE_MAX)
        config_report_line(&report, 1, "the file is above the limit of 1MiB");
    else
        root = config_node_parse(yaml, &report);
    if (root) {
        struct config_loader loader = {.config = config,
                                       .in_force = in_force,
                                       .report = &report,
                                       .root = root,
                                       .directory = directory};

        config_substitute(root, directory, &report);
        load_sections(&loader);
    }
    config_report_print(&report, messages);
    if (report.mistakes) {
        config_free(config);
        config = NULL;
    }
    config_report_release(&report);
    config_node_free(root);
    free(directory);
    return config;
}

/* Reads to the end, or to one byte beyond the limit. */
static bool read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = -1;
    int failure;

    if (fd < 0)
        return false;
    errno = ENOMEM;
    if (buf_reserve(out, FILE_MAX + 1)) {
        do {
            size = read(fd, out->data + out->size, FILE_MAX + 1 - out->size);
            if (size > 0)
                out->size += (size_t)size;
        } while ((size > 0 && out->size <= FILE_MAX) || (size < 0 && errno == EINTR));
    }
    failure = size < 0 ? errno : 0;
    close(fd);
    errno = failure;
    return size >= 0;
}

static struct config *load(const char *path, const struct config *in_force, struct buf *messages)
{
    struct config *config = NULL;
    struct buf yaml = {0};

    if (read_file(path, &yaml))
        config = parse(path, buf_text(&yaml), in_force, messages);
    else
        buf_printf(messages, "%s: cannot be read: %s\n", path, strerror(errno));
    if (yaml.data)
        explicit_bzero(yaml.data, yaml.capacity);
    buf_release(&yaml);
    return config;
}

struct config *config_load(const char *path, struct buf *messages)
{
    return load(path, NULL, messages);
}

struct config *config_reload(const struct config *in_force, struct buf *messages)
{
    return load(in_force->path, in_force, messages);
}

struct config *config_parse(const char *path, struct text yaml, struct buf *messages)
{
    return parse(path, yaml, NULL, messages);
}

struct config *config_reparse(const struct config *in_force, struct text yaml, struct buf *messages)
{
    return parse(in_force->path, yaml, in_force, messages);
}
