/*
 * The commands that concern the daemon and its configuration: serve, check, status, version,
 * catalog.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <curl/curl.h>
#include <h2o/version.h>
#include <librdkafka/rdkafka.h>
#include <lmdb.h>
#include <mosquitto.h>
#include <openssl/crypto.h>
#include <yaml.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/suggest.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/simdjson_version.h"
#include "bridge/config/config.h"
#include "bridge/daemon/reload.h"
#include "bridge/daemon/serve.h"
#include "bridge/http/http_server.h"
#include "bridge/runtime/version.h"
#include "schemas/catalog.h"

/* ---- serve ---- */

static bool choose_level(const char *name, enum log_level *out_level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* Prints what is wrong with the certificates that the configuration names. */
static int check_certificates(const struct config *config)
{
    struct http_credentials *listen = NULL;
    struct http_credentials *control = NULL;
    struct buf messages = {0};
    int rc = reload_read_credentials(config, &config->listen.tls, "listen.tls", &messages, &listen);

    if (reload_read_credentials(config, &config->control.tls, "control.tls", &messages, &control) <
        0)
        rc = -1;
    fputs(buf_text(&messages).data, stderr);
    http_credentials_free(listen);
    http_credentials_free(control);
    buf_release(&messages);
    return rc;
}

/* As cli_load_config, for the commands that need every file that it names. */
static struct config *load_all(const char *path, int *out_exit_code)
{
    struct config *config = cli_load_config(path, out_exit_code);

    if (!config || check_certificates(config) == 0)
        return config;
    config_free(config);
    *out_exit_code = EX_CONFIG;
    return NULL;
}

struct serve_options {
    const char *path;
    const char *format_name;
    const char *level_name;
    enum log_format format;
    enum log_level level;
};

static int read_serve_options(int argc, char **argv, struct serve_options *out)
{
    const struct cli_option options[] = {CLI_OPTION_CONFIG(&out->path),
                                         {.name = "log-format", .value = &out->format_name},
                                         {.name = "log-level", .value = &out->level_name},
                                         {0}};
    int rc = cli_read_only_options("serve", options, argc, argv);

    if (rc != EX_OK)
        return rc;
    out->format = strcmp(out->format_name, "json") == 0 ? LOG_JSON : LOG_LOGFMT;
    if (out->format == LOG_LOGFMT && strcmp(out->format_name, "logfmt") != 0)
        return cli_usage_error("serve", "--log-format is logfmt or json");
    if (!choose_level(out->level_name, &out->level))
        return cli_usage_error("serve", "--log-level is debug, info, warn or error");
    return EX_OK;
}

static int run_serve(int argc, char **argv)
{
    struct serve_options options = {.format_name = "logfmt", .level_name = "info"};
    struct error err = {0};
    struct config *config;
    int rc = read_serve_options(argc, argv, &options);

    if (rc != EX_OK)
        return rc;
    config = load_all(cli_config_path(options.path), &rc);
    if (!config)
        return rc;
    log_configure(options.level, options.format);
    rc = serve(config, &err);
    if (rc != EX_OK)
        log_error("process.failed", log_str("error", err.message));
    config_free(config);
    return rc;
}

const struct command cli_serve = {
    "serve", "run the bridge until SIGTERM or SIGINT",
    "usage: close-bridge serve [-c FILE] [--log-format logfmt|json]\n"
    "                          [--log-level debug|info|warn|error]\n"
    "\n"
    "Receives webhooks, makes them durable and publishes them, until SIGTERM or SIGINT; then it\n"
    "finishes what is in flight and exits 0 within ten seconds. SIGHUP reads the configuration "
    "again,\n"
    "as POST /control/reload does. The log goes to standard error.\n"
    "\n"
    "exit codes: 0 after an orderly end, 64 usage, 66 no configuration file, 69 something it "
    "needs\n"
    "is not there, or another process has the port or the journal, 74 the journal's file is\n"
    "damaged (start it again: it salvages what is sound), 78 mistakes in the configuration (all "
    "of\n"
    "them are listed), or a journal's folder that cannot be used.\n"
    "\n"
    "example: close-bridge serve -c /etc/close-bridge/close-bridge.yaml\n",
    run_serve};

/* ---- check ---- */

/* For a command that takes no other. */
static int read_config_option(const char *command, int argc, char **argv, const char **out_path)
{
    const struct cli_option options[] = {CLI_OPTION_CONFIG(out_path), {0}};

    return cli_read_only_options(command, options, argc, argv);
}

static int run_check(int argc, char **argv)
{
    const char *path = NULL;
    struct config *config;
    int rc = read_config_option("check", argc, argv, &path);

    if (rc != EX_OK)
        return rc;
    path = cli_config_path(path);
    config = load_all(path, &rc);
    if (!config)
        return rc;
    printf("%s: ok: %zu account%s, %zu entr%s, publishers: %s%s%s\n", path, config->account_count,
           config->account_count == 1 ? "" : "s", config->entry_count,
           config->entry_count == 1 ? "y" : "ies", config->kafka.is_configured ? "kafka" : "",
           config->kafka.is_configured && config->mqtt.is_configured ? ", " : "",
           config->mqtt.is_configured ? "mqtt" : "");
    config_free(config);
    return EX_OK;
}

const struct command cli_check = {
    "check", "list every mistake in a configuration",
    "usage: close-bridge check [-c FILE]\n"
    "\n"
    "Reads the configuration as `serve` would, with the certificates of the listeners, and lists\n"
    "every mistake with its file and line. Connects to nothing.\n"
    "\n"
    "exit codes: 0 no mistakes (there may be warnings), 64 usage, 66 no such file, 78 mistakes.\n"
    "\n"
    "example: close-bridge check -c close-bridge.yaml\n",
    run_check};

/* ---- status ---- */

static int ask_readiness(const struct config *config)
{
    struct control_answer answer;
    enum control_outcome outcome = cli_control_ask(config, "GET", "/readyz", 5000, &answer);
    bool is_ready = outcome == CONTROL_ANSWERED && answer.status == 200;

    if (outcome == CONTROL_ANSWERED)
        printf("%s\n", buf_text(&answer.body).data);
    else
        fprintf(stderr, "close-bridge status: %s\n", answer.problem);
    buf_release(&answer.body);
    return is_ready ? EX_OK : EX_UNAVAILABLE;
}

static int run_status(int argc, char **argv)
{
    const char *path = NULL;
    struct config *config;
    int rc = read_config_option("status", argc, argv, &path);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(path), &rc);
    if (!config)
        return rc;
    rc = ask_readiness(config);
    config_free(config);
    return rc;
}

const struct command cli_status = {
    "status", "ask the running bridge whether it accepts events",
    "usage: close-bridge status [-c FILE]\n"
    "\n"
    "Asks /readyz on the control listener that the configuration names and prints the answer.\n"
    "\n"
    "exit codes: 0 events are accepted, 64 usage, 69 they are not, or no bridge answers, 66 and "
    "78\n"
    "as for check.\n"
    "\n"
    "example: close-bridge status -c close-bridge.yaml || echo not ready\n",
    run_status};

/* ---- catalog ---- */

static void print_json(const char *category)
{
    struct buf json = {0};

    for (size_t i = 0; i < catalog_size; i++) {
        const struct catalog_pair *pair = &catalog_pairs[i];
        const struct {
            const char *key;
            const char *value;
        } members[] = {{"category", pair->category}, {"label", pair->label},
                       {"group", pair->group},       {"object_type", pair->object_type},
                       {"action", pair->action},     {"status", catalog_status_name(pair->status)}};

        if (category && strcmp(category, pair->category) != 0)
            continue;
        buf_append_string(&json, json.size ? ",\n {" : "[{");
        for (size_t m = 0; m < sizeof(members) / sizeof(members[0]); m++) {
            buf_printf(&json, "%s\"%s\":", m ? "," : "", members[m].key);
            buf_append_json_string(&json, text_of(members[m].value));
        }
        buf_append_char(&json, '}');
    }
    puts(json.size ? json.data : "[");
    puts("]");
    buf_release(&json);
}

static void print_table(const char *category)
{
    static const char row[] = "%-20s %-40s %-22s %-34s %-12s %s\n";

    printf(row, "CATEGORY", "LABEL", "GROUP", "OBJECT TYPE", "ACTION", "STATUS");
    for (size_t i = 0; i < catalog_size; i++) {
        const struct catalog_pair *pair = &catalog_pairs[i];

        if (!category || strcmp(category, pair->category) == 0)
            printf(row, pair->category, pair->label, pair->group, pair->object_type, pair->action,
                   catalog_status_name(pair->status));
    }
}

/* The category of the catalog that is nearest to `name`; `*out_is_it` when it is the same. */
static const char *nearest_category(const char *name, bool *out_is_it)
{
    struct suggestion nearest = {.word = text_of(name)};

    *out_is_it = false;
    for (size_t i = 0; i < catalog_size && !*out_is_it; i++) {
        suggestion_offer(&nearest, catalog_pairs[i].category);
        *out_is_it = strcmp(catalog_pairs[i].category, name) == 0;
    }
    return nearest.name;
}

static int run_catalog(int argc, char **argv)
{
    const char *category = NULL;
    bool as_json = false;
    bool is_category;
    const struct cli_option options[] = {
        {.name = "json", .flag = &as_json}, {.name = "category", .value = &category}, {0}};
    int rc = cli_read_only_options("catalog", options, argc, argv);

    if (rc != EX_OK)
        return rc;
    if (category) {
        const char *nearest = nearest_category(category, &is_category);

        if (!is_category)
            return cli_usage_error("catalog", "there is no category %s%s%s%s", category,
                                   nearest ? " (did you mean " : "", nearest ? nearest : "",
                                   nearest ? "?)" : "");
    }
    if (as_json)
        print_json(category);
    else
        print_table(category);
    return EX_OK;
}

const struct command cli_catalog = {
    "catalog", "print the events that Close has",
    "usage: close-bridge catalog [--json] [--category CATEGORY]\n"
    "\n"
    "Prints every pair of object type and action with its category, label, group and status.\n"
    "Wildcards in the topic map leave out pairs that are disputed or discouraged: name those.\n"
    "\n"
    "exit codes: 0, 64 usage, or no such category.\n"
    "\n"
    "example: close-bridge catalog --category opportunity\n",
    run_catalog};

/* ---- version ---- */

static int run_version(int argc, char **argv)
{
    int major;
    int minor;
    int revision;

    if (argc > 1)
        return cli_extra_argument("version", argv[1]);
    printf("close-bridge %s\n", CLOSE_BRIDGE_VERSION);
    printf("h2o %s\n", H2O_VERSION); /* the only one that cannot be asked */
    mosquitto_lib_version(&major, &minor, &revision);
    printf("librdkafka %s\nlibmosquitto %d.%d.%d\n", rd_kafka_version_str(), major, minor,
           revision);
    mdb_version(&major, &minor, &revision);
    printf("LMDB %d.%d.%d\nOpenSSL %s\nlibcurl %s\n", major, minor, revision,
           OpenSSL_version(OPENSSL_FULL_VERSION_STRING),
           curl_version_info(CURLVERSION_NOW)->version);
    printf("libyaml %s\nsimdjson %s\n", yaml_get_version_string(), simdjson_version());
    return EX_OK;
}

const struct command cli_version = {"version", "print the versions of the bridge and its libraries",
                                    "usage: close-bridge version\n"
                                    "\n"
                                    "Prints the versions of the libraries that are loaded.\n"
                                    "\n"
                                    "exit codes: 0\n"
                                    "\n"
                                    "example: close-bridge version\n",
                                    run_version};
