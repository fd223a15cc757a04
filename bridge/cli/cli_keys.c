/*
 * keys: the signature keys of an account, for replicas.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/suggest.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_sync.h"
#include "bridge/config/config.h"
#include "bridge/runtime/durable_file.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/stored_account.h"

enum { MAX_LISTED = 16, PATH_SIZE = 4096 + 8 };

const struct config_account *cli_find_account(const char *command, const struct config *config,
                                              const char *name)
{
    struct suggestion nearest = {.word = text_of(name)};

    assert(config->accounts); /* a configuration has at least one */
    for (size_t i = 0; i < config->account_count; i++) {
        if (strcmp(config->accounts[i].name, name) == 0)
            return &config->accounts[i];
        suggestion_offer(&nearest, config->accounts[i].name);
    }
    fprintf(stderr, "close-bridge %s: the configuration has no account %s%s%s%s\n", command, name,
            nearest.name ? "; did you mean " : "", nearest.name ? nearest.name : "",
            nearest.name ? "?" : "");
    return NULL;
}

/* ---- the list ---- */

/* Unless it is there already, or enough are. */
static void append_key(struct buf *lines, const unsigned char key[SIGNATURE_KEY_SIZE])
{
    char hex[2 * SIGNATURE_KEY_SIZE + 1];

    text_to_hex(key, SIGNATURE_KEY_SIZE, hex);
    if (lines->size / sizeof(hex) < MAX_LISTED && !strstr(buf_text(lines).data, hex)) {
        buf_append(lines, hex, sizeof(hex) - 1);
        buf_append_char(lines, '\n');
    }
    OPENSSL_cleanse(hex, sizeof(hex));
}

static void append_stored(struct buf *lines, const struct stored_account *stored)
{
    const struct stored_key *own = stored && stored->subscription_id
                                       ? stored_account_key(stored, stored->subscription_id)
                                       : NULL;

    if (own)
        append_key(lines, own->key);
    for (size_t i = 0; stored && i < stored->key_count; i++)
        append_key(lines, stored->keys[i].key);
}

int cli_keys_list(const struct config *config, const struct config_account *account,
                  struct buf *out_lines, struct error *err)
{
    struct key_store *store =
        key_store_open(config->journal.path, KEY_STORE_READ, &clock_system, err);

    if (!store)
        return -1;
    buf_reserve(out_lines, MAX_LISTED * 80); /* growing would leave copies behind */
    append_stored(out_lines, key_store_find(store, account->name));
    for (size_t i = 0; i < account->signature_key_count; i++)
        append_key(out_lines, account->signature_keys[i]);
    key_store_close(store);
    return out_lines->failed ? error_set(err, ERROR_FATAL, "out of memory") : 0;
}

void cli_keys_wipe(struct buf *lines)
{
    if (lines->data)
        OPENSSL_cleanse(lines->data, lines->capacity);
    buf_release(lines);
}

/* ---- a file of them ---- */

static void fresh_path(const char *path, char out[PATH_SIZE])
{
    snprintf(out, PATH_SIZE, "%s.new", path);
}

static int cannot_write(const char *path, struct error *err)
{
    return error_set(err, ERROR_CONFIG, "cannot write %s: %s", path, strerror(errno));
}

int cli_keys_begin(const char *path, struct error *err)
{
    char fresh[PATH_SIZE];
    int fd;

    fresh_path(path, fresh);
    unlink(fresh);
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : cannot_write(fresh, err);
}

static int put_in_place(int fd, const char *path, const struct buf *lines, struct error *err)
{
    char fresh[PATH_SIZE];

    fresh_path(path, fresh);
    if (write(fd, buf_text(lines).data, lines->size) != (ssize_t)lines->size || fsync(fd) != 0 ||
        rename(fresh, path) != 0)
        return cannot_write(path, err);
    return durable_file_sync_folder(path) ? 0 : cannot_write(path, err);
}

int cli_keys_finish(int fd, const char *path, const struct config *config,
                    const struct config_account *account, struct error *err)
{
    char fresh[PATH_SIZE];
    struct buf lines = {0};
    int rc = cli_keys_list(config, account, &lines, err);

    if (rc == 0 && lines.size > 0)
        rc = put_in_place(fd, path, &lines, err);
    close(fd);
    fresh_path(path, fresh);
    unlink(fresh); /* unless it was put in place */
    cli_keys_wipe(&lines);
    return rc;
}

/* ---- keys export ---- */

static int export_keys(const struct config *config, const char *name)
{
    const struct config_account *account = cli_find_account("keys", config, name);
    struct buf lines = {0};
    struct error err = {0};
    int rc = EX_OK;

    if (!account)
        return EX_USAGE;
    if (cli_keys_list(config, account, &lines, &err) < 0) {
        fprintf(stderr, "close-bridge keys: %s\n", err.message);
        rc = err.kind == ERROR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
    } else if (lines.size == 0) {
        fprintf(stderr,
                "close-bridge keys: no key of account %s is known: close-bridge sync gets one\n",
                name);
        rc = EX_UNAVAILABLE;
    } else {
        fputs(lines.data, stdout);
    }
    cli_keys_wipe(&lines);
    return rc;
}

static int run(int argc, char **argv)
{
    const char *path = NULL;
    const char *account = NULL;
    const struct cli_option options[] = {
        CLI_OPTION_CONFIG(&path), {.name = "account", .value = &account}, {0}};
    struct config *config;
    int rc = cli_read_options("keys", options, &argc, &argv);

    if (rc != EX_OK)
        return rc;
    if (argc != 1 || strcmp(argv[0], "export") != 0 || !account)
        return cli_usage_error("keys", "say export --account NAME");
    config = cli_load_config(cli_config_path(path), &rc);
    if (!config)
        return rc;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    rc = export_keys(config, account);
    config_free(config);
    return rc;
}

const struct command cli_keys = {
    "keys", "print an account's signature keys, for replicas",
    "usage: close-bridge keys [-c FILE] export --account NAME\n"
    "\n"
    "Prints the keys that deliveries of the account are verified with, those of its subscription\n"
    "first and then the configured ones, 64 hex digits a line: what signature_keys:\n"
    "\"${file:FILE}\" reads. They are secrets: whoever has one can send events.\n"
    "\n"
    "exit codes: 0, 64 usage, 66 no configuration file, 69 no key is known, 78 mistakes in the\n"
    "configuration, or a keys file that others may read.\n"
    "\n"
    "example: (umask 077; close-bridge keys export --account main > keys)\n",
    run};
