/*
 * sync and unsubscribe: ask the running bridge, or do it themselves when none runs.
 */
#include "bridge/cli/cli_sync.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/suggest.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_options.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_api.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscription_sync.h"
#include "schemas/json_reader.h"

/* A sync obeys Close's rate limits, which can take minutes. */
enum { ANSWER_MS = 15 * 60 * 1000 };

struct options {
    const char *command;
    const char *config_path;
    const char *account; /* NULL: all */
    const char *keys_out;
    bool is_removal;
    bool is_dry_run;
    bool as_json;
};

/* ---- without a daemon ---- */

static void run_account(const struct options *options, const struct sync_tools *tools,
                        const char *name, struct account_settings *account, struct buf *json)
{
    struct sync_memory memory = {0};
    struct sync_report report;

    if (options->is_removal)
        sync_unsubscribe(tools, name, account, &memory, REMOVAL_LASTS, &report);
    else
        sync_account(tools, account, &memory, options->is_dry_run ? SYNC_DRY_RUN : SYNC_EXPLICIT,
                     &report);
    buf_append_comma(json);
    sync_report_append(&report, json);
    sync_report_release(&report);
    sync_memory_release(&memory);
}

static void run_accounts(const struct options *options, const struct sync_tools *tools,
                         const struct settings *settings, struct buf *json)
{
    buf_append_string(json, "{\"accounts\":[");
    for (size_t i = 0; i < settings->count; i++) {
        struct account_settings *account = &settings->accounts[i];

        if (options->account ? strcmp(options->account, account->name) == 0
                             : account_can_sync(account))
            run_account(options, tools, account->name, account, json);
    }
    if (options->account && !settings_find(settings, options->account))
        run_account(options, tools, options->account, NULL, json);
    buf_printf(json, "],\"dry_run\":%s}", options->is_dry_run ? "true" : "false");
    if (buf_reserve(json, JSON_PADDING))
        memset(json->data + json->size, 0, JSON_PADDING);
}

static int run_here(const struct options *options, const struct config *config, struct buf *json)
{
    struct error err = {0};
    struct settings *settings = settings_new(config, &err);
    struct close_api *api =
        close_api_new(&(struct close_api_options){.clock = &clock_system}, &err);
    struct key_store *store =
        settings && api ? key_store_open(config->journal.path, KEY_STORE_OWN, &clock_system, &err)
                        : NULL;
    struct sync_tools tools = {.api = api, .store = store, .clock = &clock_system};

    if (store)
        run_accounts(options, &tools, settings, json);
    else
        fprintf(stderr, "close-bridge %s: %s\n", options->command, err.message);
    key_store_close(store);
    close_api_free(api);
    settings_free(settings);
    if (store && !json->failed)
        return EX_OK;
    return err.kind == ERROR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
}

/* ---- with one ---- */

static int run_there(const struct options *options, struct control_answer *answer)
{
    if (answer->status < 200 || answer->status > 299)
        return cli_control_refused(options->command, answer);
    return EX_OK;
}

static void append_path(struct buf *path, const struct options *options)
{
    if (options->is_removal)
        buf_append_string(path, "/control/subscriptions");
    else
        buf_printf(path, "/control/sync?dry_run=%s", options->is_dry_run ? "true" : "false");
    cli_control_append_parameter(path, "account", options->account);
}

/* Replicas share no keys file: in broker mode the command does it itself. */
static int run_where_it_is_done(const struct options *options, const struct config *config,
                                struct buf *json)
{
    struct control_answer answer = {0};
    enum control_outcome outcome = CONTROL_NOBODY;
    struct buf path = {0};
    int rc;

    append_path(&path, options);
    if (config->journal.acknowledge == ACKNOWLEDGE_JOURNAL)
        outcome = cli_control_ask(config, options->is_removal ? "DELETE" : "POST",
                                  buf_text(&path).data, ANSWER_MS, &answer);
    buf_release(&path);
    if (outcome == CONTROL_NOBODY) {
        rc = run_here(options, config, json);
    } else if (outcome == CONTROL_ANSWERED) {
        rc = run_there(options, &answer);
        *json = answer.body;
        answer.body = (struct buf){0};
    } else {
        fprintf(stderr, "close-bridge %s: %s\n", options->command, answer.problem);
        rc = EX_UNAVAILABLE;
    }
    buf_release(&answer.body);
    return rc;
}

static int run_and_print(const struct options *options, const struct config *config)
{
    struct buf json = {0};
    int rc = run_where_it_is_done(options, config, &json);

    if (rc == EX_OK && options->as_json)
        printf("%s\n", buf_text(&json).data);
    else if (rc == EX_OK)
        rc = cli_sync_print(options->command, buf_text(&json));
    buf_release(&json);
    return rc;
}

/* ---- keys for replicas ---- */

/* The account whose keys are meant; NULL when it was reported. */
static const struct config_account *keys_account(const struct options *options,
                                                 const struct config *config)
{
    if (!options->account && config->account_count > 1) {
        cli_usage_error(options->command, "there are several accounts: say which with --account");
        return NULL;
    }
    return cli_find_account(options->command, config,
                            options->account ? options->account : config->accounts[0].name);
}

/* The file is opened before anything happens at Close: a key must have where to go. */
static int run_with_keys_out(const struct options *options, const struct config *config)
{
    const struct config_account *account = keys_account(options, config);
    struct error err = {0};
    int fd;
    int rc;

    if (!account)
        return EX_USAGE;
    fd = cli_keys_begin(options->keys_out, &err);
    rc = fd < 0 ? EX_CANTCREAT : run_and_print(options, config);
    if (fd >= 0 && cli_keys_finish(fd, options->keys_out, config, account, &err) < 0 && rc == EX_OK)
        rc = EX_CANTCREAT;
    if (rc == EX_CANTCREAT)
        fprintf(stderr, "close-bridge %s: %s\n", options->command, err.message);
    return rc;
}

/* ---- the commands ---- */

static int run_command(const struct options *options)
{
    struct config *config;
    int rc;

    config = cli_load_config(cli_config_path(options->config_path), &rc);
    if (!config)
        return rc;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    if (options->account && !options->is_removal &&
        !cli_find_account(options->command, config, options->account))
        rc = EX_USAGE;
    else if (options->keys_out)
        rc = run_with_keys_out(options, config);
    else
        rc = run_and_print(options, config);
    config_free(config);
    return rc;
}

static int run_sync(int argc, char **argv)
{
    struct options options = {.command = "sync"};
    const struct cli_option known[] = {CLI_OPTION_CONFIG(&options.config_path),
                                       {.name = "account", .value = &options.account},
                                       {.name = "dry-run", .flag = &options.is_dry_run},
                                       {.name = "json", .flag = &options.as_json},
                                       {.name = "keys-out", .value = &options.keys_out},
                                       {0}};
    int rc = cli_read_only_options("sync", known, argc, argv);

    if (rc == EX_OK && options.keys_out && options.is_dry_run)
        rc = cli_usage_error("sync", "a dry run has no keys for --keys-out");
    return rc == EX_OK ? run_command(&options) : rc;
}

const struct command cli_sync = {
    "sync", "make the subscriptions at Close match the topic map",
    "usage: close-bridge sync [-c FILE] [--account NAME] [--dry-run] [--json] [--keys-out FILE]\n"
    "\n"
    "Makes Close send exactly the events that the topic map wants, and prints the difference. "
    "Asks\n"
    "the running bridge; when none runs, or with acknowledge: broker, it does it itself. Each\n"
    "account needs webhook_url, and api_key or oauth_token.\n"
    "\n"
    "--dry-run   changes nothing and says what would be done\n"
    "--json      prints the answer of POST /control/sync\n"
    "--keys-out  also writes the account's signature keys to FILE (mode 0600, a key a line), "
    "which\n"
    "            replicas read with signature_keys: \"${file:FILE}\"; make it empty before the "
    "first\n"
    "            sync, for a configuration needs the files that it names\n"
    "\n"
    "exit codes: 0 they match, 64 usage, 66 no configuration file, 69 an account failed, or the\n"
    "bridge does not answer, 73 FILE cannot be written, 77 the control token is wrong, 78 "
    "mistakes\n"
    "in the configuration, or nothing to sync.\n"
    "\n"
    "example: close-bridge sync -c close-bridge.yaml --dry-run\n",
    run_sync};

static int run_unsubscribe(int argc, char **argv)
{
    struct options options = {.command = "unsubscribe", .is_removal = true};
    const struct cli_option known[] = {CLI_OPTION_CONFIG(&options.config_path),
                                       {.name = "account", .value = &options.account},
                                       {.name = "json", .flag = &options.as_json},
                                       {0}};
    int rc = cli_read_only_options("unsubscribe", known, argc, argv);

    return rc == EX_OK ? run_command(&options) : rc;
}

const struct command cli_unsubscribe = {
    "unsubscribe", "delete the subscriptions at Close and forget their keys",
    "usage: close-bridge unsubscribe [-c FILE] [--account NAME] [--json]\n"
    "\n"
    "Deletes the subscription of one account, or of all, at Close, and then its id and key here:\n"
    "what Close still sends is answered 401. It stays so until close-bridge sync. NAME may be an\n"
    "account that the configuration has no more: then only what is kept here goes. Asks the "
    "running\n"
    "bridge; when none runs, or with acknowledge: broker, it does it itself.\n"
    "\n"
    "exit codes: 0 done (also when there was none), 64 usage, 65 the bridge knows no such "
    "account,\n"
    "66 no configuration file, 69 an account failed, or the bridge does not answer, 77 the "
    "control\n"
    "token is wrong, 78 mistakes in the configuration, or no account to unsubscribe.\n"
    "\n"
    "example: close-bridge unsubscribe -c close-bridge.yaml --account main\n",
    run_unsubscribe};
