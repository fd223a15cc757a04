#include <string.h>

#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/config/config_diff.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_values.h"

enum {
    MQTT_ACK_TIMEOUT_MS = 30000,
    CLOSE_RETRY_MS = 60 * 1000, /* when Close repeats a delivery for the first time */
};

static const struct config_node *item(struct config_loader *loader, const char *list, size_t index)
{
    return config_node_get(loader->root, list)->items[index];
}

/* ---- listeners ---- */

static bool is_every_address(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static void check_token(struct config_loader *loader)
{
    const char *token = loader->config->control.token;

    for (; token && *token; token++) {
        if (*token <= 0x20 || *token >= 0x7f) {
            config_report_mistake(loader->report, loader->root, "control.token",
                                  "only visible ASCII characters can be sent in a header");
            return;
        }
    }
}

static const struct config_node *tls_node(struct config_loader *loader, const char *section)
{
    return config_node_get(config_node_get(loader->root, section), "tls");
}

static void check_tls(struct config_loader *loader)
{
    struct config *config = loader->config;
    const struct config_node *listen = tls_node(loader, "listen");
    const struct config_node *control = tls_node(loader, "control");

    config->listen.tls.line = listen ? listen->line : 0;
    config->control.tls.line = control ? control->line : 0;
    if (!control)
        return;
    if (config->control.socket_path)
        config_report_mistake(loader->report, control, NULL,
                              "a socket has no use for it: its file's mode keeps others out");
    if (!config_node_get(control, "client_certificate") != !config_node_get(control, "client_key"))
        config_report_mistake(loader->report, control, NULL,
                              "client_certificate and client_key belong together: one is missing");
}

static void check_listeners(struct config_loader *loader)
{
    const struct config *config = loader->config;
    const char *control = config->control.host;
    const char *listen = config->listen.host;
    const struct config_node *section = config_node_get(loader->root, "control");

    check_tls(loader);
    if (!control || !listen)
        return; /* a socket */
    if (!config_value_is_loopback(control) && !config_node_get(section, "token") &&
        !config_node_get(tls_node(loader, "control"), "client_ca"))
        config_report_mistake(loader->report, loader->root, "control.token",
                              "is missing: without it anybody who reaches the address could "
                              "replay and unsubscribe; or set control.tls.client_ca, or use "
                              "127.0.0.1 or unix:PATH");
    if (config->control.port != 0 && config->control.port == config->listen.port &&
        (strcmp(control, listen) == 0 || is_every_address(control) || is_every_address(listen)))
        config_report_mistake(loader->report, loader->root, "control.address",
                              "is the address of the public listener; it needs its own port");
}

/* ---- accounts ---- */

static void check_replay_windows(struct config_loader *loader)
{
    const struct config *config = loader->config;
    char shown[CONFIG_SHOWN_SIZE];

    config_value_show_duration(config->journal.dedupe_window_ms, shown);
    for (size_t i = 0; i < config->account_count; i++) {
        if (config->accounts[i].replay_window_ms >= config->journal.dedupe_window_ms)
            config_report_mistake(loader->report, item(loader, "accounts", i), "replay_window",
                                  "must be below journal.dedupe_window (%s), else a delivery "
                                  "could be replayed after it was forgotten",
                                  shown);
    }
}

/* What a run reads twice has to be known as such. */
static bool check_catch_up_span(struct config_loader *loader, const struct config_node *node,
                                const struct config_catch_up *catch_up)
{
    int64_t dedupe_window_ms = loader->config->journal.dedupe_window_ms;
    int64_t span_ms = catch_up->interval_ms + catch_up->overlap_ms + catch_up->settle_ms;
    char shown[CONFIG_SHOWN_SIZE];

    config_value_show_duration(dedupe_window_ms, shown);
    if (span_ms >= dedupe_window_ms)
        config_report_mistake(loader->report, node, "catch_up",
                              "interval, overlap and settle together must be below "
                              "journal.dedupe_window (%s), else events would be published "
                              "twice",
                              shown);
    else if (span_ms > catch_up->max_age_ms)
        config_report_mistake(loader->report, node, "catch_up",
                              "max_age must not be below interval, overlap and settle "
                              "together, else events would be left out");
    return span_ms < dedupe_window_ms && span_ms <= catch_up->max_age_ms;
}

static void warn_of_short_interval(struct config_loader *loader, const struct config_node *node,
                                   const struct config_catch_up *catch_up)
{
    char interval[CONFIG_SHOWN_SIZE];
    char overlap[CONFIG_SHOWN_SIZE];

    if (catch_up->interval_ms >= CLOSE_RETRY_MS)
        return;
    config_value_show_duration(catch_up->interval_ms, interval);
    config_value_show_duration(catch_up->overlap_ms, overlap);
    config_report_warning(loader->report, node, "catch_up.interval",
                          "%s is short: every run reads the last %s again and counts against "
                          "Close's rate limit; 1m is enough, for by then Close itself "
                          "repeats what failed",
                          interval, overlap);
}

static void check_catch_up(struct config_loader *loader)
{
    const struct config *config = loader->config;

    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *account = &config->accounts[i];
        const struct config_node *node = item(loader, "accounts", i);

        if (account->catch_up.interval_ms == 0 || (!account->api_key && !account->oauth_token))
            continue;
        if (check_catch_up_span(loader, node, &account->catch_up))
            warn_of_short_interval(loader, node, &account->catch_up);
    }
}

/* ---- topic map ---- */

static bool same_selector(const struct config_entry *a, const struct config_entry *b)
{
    return (a->object_type || a->category) && config_same_string(a->object_type, b->object_type) &&
           config_same_string(a->category, b->category) && config_same_string(a->group, b->group) &&
           config_same_string(a->account, b->account) && a->fallback == b->fallback &&
           config_same_actions(a, b) && config_same_labels(a, b) && config_same_filter(a, b);
}

static bool same_topic(const struct config_target *a, const struct config_target *b)
{
    return a->topic && b->topic && config_same_string(a->topic_source, b->topic_source);
}

static void check_repeated(struct config_loader *loader, size_t index)
{
    const struct config_entry *entry = &loader->config->entries[index];

    for (const struct config_entry *other = loader->config->entries; other < entry; other++) {
        bool is_kafka = same_topic(&entry->kafka, &other->kafka);

        if ((!is_kafka && !same_topic(&entry->mqtt, &other->mqtt)) || !same_selector(entry, other))
            continue;
        config_report_mistake(loader->report, item(loader, "topic_map", index),
                              is_kafka ? "kafka.topic" : "mqtt.topic",
                              "would publish twice: the entry in line %d takes the same events to "
                              "the same topic",
                              other->line);
        return;
    }
}

static void check_account_of(struct config_loader *loader, size_t index)
{
    const struct config *config = loader->config;
    const char *account = config->entries[index].account;

    if (!account)
        return;
    for (size_t i = 0; i < config->account_count; i++) {
        if (config_same_string(config->accounts[i].name, account))
            return;
    }
    config_report_mistake(loader->report, item(loader, "topic_map", index), "account",
                          "no account of this name is configured");
}

/* A publisher that is there but wrong was reported. */
static bool has_publisher(struct config_loader *loader, const char *name)
{
    return config_node_get(config_node_get(loader->root, "publishers"), name) != NULL;
}

static void check_entries(struct config_loader *loader)
{
    const struct config *config = loader->config;

    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (entry->kafka.is_configured && !has_publisher(loader, "kafka"))
            config_report_mistake(loader->report, item(loader, "topic_map", i), "kafka",
                                  "publishers.kafka is not configured");
        if (entry->mqtt.is_configured && !has_publisher(loader, "mqtt"))
            config_report_mistake(loader->report, item(loader, "topic_map", i), "mqtt",
                                  "publishers.mqtt is not configured");
        check_account_of(loader, i);
        check_repeated(loader, i);
    }
}

/* ---- publishers ---- */

static void check_publishers(struct config_loader *loader)
{
    const struct config *config = loader->config;
    bool uses_kafka = config->dead_letter_topic != NULL;
    bool uses_mqtt = false;

    for (size_t i = 0; i < config->entry_count; i++) {
        uses_kafka = uses_kafka || config->entries[i].kafka.is_configured;
        uses_mqtt = uses_mqtt || config->entries[i].mqtt.is_configured;
    }
    if (!has_publisher(loader, "kafka") && !has_publisher(loader, "mqtt"))
        config_report_mistake(loader->report, loader->root, "publishers",
                              "none is configured: kafka or mqtt is needed");
    if (config->entry_count == 0)
        return; /* reported */
    if (config->kafka.is_configured && !uses_kafka)
        config_report_warning(loader->report, loader->root, "publishers.kafka",
                              "no entry of topic_map publishes to it");
    if (config->mqtt.is_configured && !uses_mqtt)
        config_report_warning(loader->report, loader->root, "publishers.mqtt",
                              "no entry of topic_map publishes to it");
}

static void check_dead_letters(struct config_loader *loader)
{
    const struct config *config = loader->config;
    struct topic_template *topic;
    struct error err = {0};

    if (!config->dead_letter_topic)
        return;
    if (!has_publisher(loader, "kafka"))
        config_report_mistake(loader->report, loader->root, "dead_letters.kafka",
                              "publishers.kafka is not configured");
    topic = topic_template_compile(text_of(config->dead_letter_topic), TOPIC_KAFKA, &err);
    if (!topic)
        config_report_mistake(loader->report, loader->root, "dead_letters.kafka.topic", "%s",
                              err.message);
    else if (!topic_template_is_constant(topic))
        config_report_mistake(loader->report, loader->root, "dead_letters.kafka.topic",
                              "no variable is allowed here");
    topic_template_free(topic);
}

/* ---- broker mode ---- */

/* Keys that are wrong were reported; of a file that is still empty a warning tells. */
static bool names_keys(const struct config_node *account)
{
    const struct config_node *keys = config_node_get(account, "signature_keys");

    return keys && (keys->kind != NODE_LIST || keys->count > 0);
}

static void check_broker_accounts(struct config_loader *loader)
{
    const struct config *config = loader->config;

    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *account = &config->accounts[i];
        const struct config_node *node = item(loader, "accounts", i);

        if ((account->api_key || account->oauth_token) && account->sync != SYNC_MANUAL)
            config_report_mistake(loader->report, node, "sync",
                                  "must be manual with acknowledge: broker, for replicas would "
                                  "fight over the subscription");
        if ((account->api_key || account->oauth_token) && !names_keys(node))
            config_report_mistake(loader->report, node, "signature_keys",
                                  "is needed with acknowledge: broker, which keeps no keys of "
                                  "its own");
    }
}

/* The only place where what a policy would cut can show. */
static void check_broker_fields(struct config_loader *loader)
{
    const struct config *config = loader->config;

    for (size_t i = 0; config->dead_letter_topic && i < config->entry_count; i++) {
        if (!config->entries[i].fields)
            continue;
        config_report_warning(loader->report, loader->root, "dead_letters.kafka",
                              "gets what is not an event whole, whatever the fields of topic_map, "
                              "for with acknowledge: broker nothing else keeps it");
        return;
    }
}

static void check_broker_mode(struct config_loader *loader)
{
    const struct config *config = loader->config;

    if (config->journal.acknowledge != ACKNOWLEDGE_BROKER)
        return;
    check_broker_accounts(loader);
    check_broker_fields(loader);
    if (!config->dead_letter_topic &&
        !config_node_get(config_node_get(loader->root, "dead_letters"), "kafka"))
        config_report_mistake(loader->report, loader->root, "dead_letters.kafka",
                              "is needed with acknowledge: broker, which has no other place to "
                              "keep what a broker refuses");
    for (size_t i = 0; i < config->entry_count; i++) {
        if (config->entries[i].mqtt.is_configured && config->entries[i].mqtt.qos == 0)
            config_report_mistake(loader->report, item(loader, "topic_map", i), "mqtt.qos",
                                  "0 has no acknowledgement to wait for; acknowledge: broker "
                                  "needs 1 or 2");
    }
}

static void set_timeouts(struct config *config)
{
    int64_t share = config->journal.acknowledge_timeout_ms / 4 * 3;
    bool is_broker = config->journal.acknowledge == ACKNOWLEDGE_BROKER;

    config->kafka_options.message_timeout_ms = is_broker ? share : 0;
    config->mqtt_options.ack_timeout_ms = is_broker ? share : MQTT_ACK_TIMEOUT_MS;
}

/* ---- reload ---- */

static void report_fixed(void *context, const char *name, const struct directive *row)
{
    struct config_loader *loader = context;

    (void)row;
    config_report_mistake(loader->report, loader->root, name,
                          "cannot change while the bridge runs: restart it, or put the value back");
}

void config_check(struct config_loader *loader)
{
    check_listeners(loader);
    check_token(loader);
    check_replay_windows(loader);
    check_catch_up(loader);
    check_entries(loader);
    check_publishers(loader);
    check_dead_letters(loader);
    check_broker_mode(loader);
    if (loader->report->mistakes == 0)
        config_check_reach(loader);
    set_timeouts(loader->config);
    if (loader->in_force)
        config_diff_fixed(loader->in_force, loader->config, report_fixed, loader);
}
