#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bridge/base/error.h"
#include "bridge/base/suggest.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_values.h"

enum { MQTT_PORT = 1883, MQTTS_PORT = 8883 };

static void wipe_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void release_properties(struct kafka_property *properties, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(properties[i].name);
        wipe_free(properties[i].value);
    }
    free(properties);
}

void config_publishers_release(struct config *config)
{
    struct mqtt_options *mqtt = &config->mqtt_options;

    release_properties(config->kafka_options.properties, config->kafka_options.property_count);
    release_properties(config->kafka_topics.config, config->kafka_topics.config_count);
    free(mqtt->host);
    free(mqtt->username);
    wipe_free(mqtt->password);
    free(mqtt->ca);
    free(mqtt->certificate);
    free(mqtt->key);
    free(mqtt->client_id);
    free(mqtt->status_topic);
}

/* ---- properties of librdkafka ---- */

/* Properties of librdkafka that name a file; "probe" is a word of its own. */
static bool is_path_property(const char *name, const char *value)
{
    size_t size = strlen(name);

    if (strcmp(value, "probe") == 0 || value[0] == '\0')
        return false;
    return strcmp(name, "sasl.kerberos.keytab") == 0 ||
           (strncmp(name, "ssl.", 4) == 0 && size > 9 && strcmp(name + size - 9, ".location") == 0);
}

/* A certificate that was renewed is reason enough to make the publisher anew. */
static void stamp_file(const char *path, uint64_t *stamp)
{
    struct stat status;
    uint64_t parts[4] = {0};

    if (path && stat(path, &status) == 0) {
        parts[0] = status.st_ino;
        parts[1] = (uint64_t)status.st_size;
        parts[2] = (uint64_t)status.st_mtim.tv_sec;
        parts[3] = (uint64_t)status.st_mtim.tv_nsec;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        *stamp = (*stamp ^ parts[i]) * 1099511628211u; /* FNV-1a */
}

static void add_property(struct config_loader *loader, const struct config_node *node,
                         struct kafka_options *options)
{
    struct kafka_property *property = &options->properties[options->property_count];

    if (!config_expect_value(loader, node))
        return;
    property->line = node->line;
    property->name = text_dup(text_of(node->key));
    if (is_path_property(node->key, node->text)) {
        property->value = config_value_path(node->text, loader->directory);
        stamp_file(property->value, &options->files);
    } else {
        property->value = text_dup(text_of(node->text));
    }
    options->property_count++;
    if (!property->name || !property->value)
        config_report_line(loader->report, 1, "out of memory");
}

static void report_property(void *context, const struct kafka_property *property,
                            const char *message)
{
    struct config_loader *loader = context;
    const struct config_node *publishers = config_node_get(loader->root, "publishers");
    const struct config_node *kafka = config_node_get(publishers, "kafka");
    const struct config_node *node = config_node_get(kafka, property->name);
    char *nearest;

    /* librdkafka repeats a value that it does not take. */
    if (node->is_substituted && property->value[0] && strstr(message, property->value)) {
        config_report_mistake(loader->report, node, NULL, "librdkafka does not take this value");
        return;
    }
    nearest = config_directives_nearest("publishers.kafka", property->name);
    if (nearest)
        config_report_mistake(loader->report, node, NULL, "%s; did you mean %s?", message, nearest);
    else
        config_report_mistake(loader->report, node, NULL, "%s", message);
    free(nearest);
}

static bool names_brokers(const char *property)
{
    return strcmp(property, "bootstrap.servers") == 0 ||
           strcmp(property, "metadata.broker.list") == 0;
}

static void check_kafka(struct config_loader *loader, const struct config_node *node)
{
    struct kafka_options *options = &loader->config->kafka_options;

    if (!config_node_get(node, "bootstrap.servers") &&
        !config_node_get(node, "metadata.broker.list"))
        config_report_mistake(loader->report, node, "bootstrap.servers", "is missing");
    for (size_t i = 0; i < options->property_count; i++) {
        if (!options->properties[i].name || !options->properties[i].value)
            return; /* out of memory, reported */
        if (names_brokers(options->properties[i].name) && !options->properties[i].value[0])
            config_report_mistake(loader->report, node, options->properties[i].name,
                                  "is empty: write host:port, several with commas");
    }
    kafka_options_check(options, report_property, loader);
}

/* ---- create_topics ---- */

void config_load_create_topics(struct config_loader *loader, const struct config_node *node,
                               void *base)
{
    struct config *config = base;
    struct error err = {0};

    if (node->kind == NODE_SCALAR) {
        char quoted[CONFIG_QUOTED_SIZE];

        if (config_value_bool(text_of(node->text), &config->kafka_topics.are_created, &err) != 0)
            config_report_mistake(loader->report, node, NULL,
                                  "%s is neither true, false nor a mapping",
                                  config_quote(node, quoted));
        return;
    }
    if (!config_expect_map(loader, node))
        return;
    config->kafka_topics.are_created = true;
    config_directives_apply(loader, node, "publishers.kafka.create_topics", config);
}

void config_load_topic_config(struct config_loader *loader, const struct config_node *node,
                              void *base)
{
    struct kafka_topic_options *topics = &((struct config *)base)->kafka_topics;

    if (!config_expect_map(loader, node))
        return;
    topics->config = calloc(node->count ? node->count : 1, sizeof(struct kafka_property));
    for (size_t i = 0; topics->config && i < node->count; i++) {
        struct kafka_property *property = &topics->config[topics->config_count];

        if (!config_expect_value(loader, node->items[i]))
            continue;
        *property = (struct kafka_property){.name = text_dup(text_of(node->items[i]->key)),
                                            .value = text_dup(text_of(node->items[i]->text)),
                                            .line = node->items[i]->line};
        topics->config_count++;
        if (!property->name || !property->value)
            config_report_line(loader->report, 1, "out of memory");
    }
    if (!topics->config)
        config_report_line(loader->report, 1, "out of memory");
}

/* ---- Kafka ---- */

void config_load_kafka(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config *config = base;

    if (!config_expect_map(loader, node))
        return;
    config->kafka.is_configured = true;
    config->kafka.line = node->line;
    config_directives_default(loader, "publishers.kafka", config);
    config->kafka_options.properties =
        calloc(node->count ? node->count : 1, sizeof(struct kafka_property));
    if (!config->kafka_options.properties) {
        config_report_line(loader->report, 1, "out of memory");
        return;
    }
    for (size_t i = 0; i < node->count; i++) {
        const struct config_node *item = node->items[i];

        if (!config_directives_apply_key(loader, item, "publishers.kafka", config))
            add_property(loader, item, &config->kafka_options);
    }
    check_kafka(loader, node);
}

/* ---- MQTT ---- */

int config_parse_mqtt_url(struct config_loader *loader, const char *value, void *base,
                          struct error *err)
{
    struct mqtt_options *options = &((struct config *)base)->mqtt_options;
    bool use_tls = strncmp(value, "mqtts://", 8) == 0;
    const char *address = value + (use_tls ? 8 : 7);
    char *host = NULL;
    char with_port[300];
    uint16_t port = 0;
    size_t size;

    (void)loader;
    if ((!use_tls && strncmp(value, "mqtt://", 7) != 0) || strlen(value) > 280)
        return error_set(err, ERROR_CONFIG,
                         "is not a URL such as mqtt://host:1883 or mqtts://host");
    if (strchr(address, '@'))
        return error_set(err, ERROR_CONFIG,
                         "holds an @: write username and password as keys of their own");
    size = strlen(address);
    if (size && address[size - 1] == '/')
        size--;
    snprintf(with_port, sizeof(with_port), "%.*s", (int)size, address);
    if (!strchr(address, ':') || (size && address[size - 1] == ']'))
        snprintf(with_port, sizeof(with_port), "%.*s:%d", (int)size, address,
                 use_tls ? MQTTS_PORT : MQTT_PORT);
    if (with_port[0] == ':' || config_value_address(text_of(with_port), &host, &port, NULL) != 0 ||
        port == 0) {
        free(host);
        return error_set(err, ERROR_CONFIG,
                         "is not a URL such as mqtt://host:1883 or mqtts://host");
    }
    free(options->host);
    options->host = host;
    options->port = port;
    options->use_tls = use_tls;
    return 0;
}

int config_parse_mqtt_version(struct config_loader *loader, const char *value, void *base,
                              struct error *err)
{
    struct mqtt_options *options = &((struct config *)base)->mqtt_options;

    (void)loader;
    if (strcmp(value, "5") == 0 || strcmp(value, "5.0") == 0)
        options->version = 5;
    else if (strcmp(value, "3.1.1") == 0)
        options->version = 3;
    else
        return error_set(err, ERROR_CONFIG, "is not one of 5 or 3.1.1");
    return 0;
}

static void require_both(struct config_loader *loader, const struct config_node *node,
                         const char *key, const char *other)
{
    if (config_node_get(node, key) && !config_node_get(node, other))
        config_report_mistake(loader->report, node, other, "is missing; %s needs it", key);
}

static void check_mqtt(struct config_loader *loader, const struct config_node *node)
{
    static const char *const tls_keys[] = {"ca", "certificate", "key"};
    struct config *config = loader->config;
    struct mqtt_options *options = &config->mqtt_options;
    struct topic_template *topic;
    struct error err = {0};

    options->window = config->mqtt.window;
    require_both(loader, node, "certificate", "key");
    require_both(loader, node, "key", "certificate");
    require_both(loader, node, "password", "username");
    for (size_t i = 0; i < sizeof(tls_keys) / sizeof(tls_keys[0]); i++) {
        if (options->host && !options->use_tls && config_node_get(node, tls_keys[i]))
            config_report_mistake(loader->report, node, tls_keys[i],
                                  "needs TLS: write mqtts:// in url");
    }
    if (!options->status_topic)
        return;
    topic = topic_template_compile(text_of(options->status_topic), TOPIC_MQTT, &err);
    if (!topic)
        config_report_mistake(loader->report, node, "status_topic", "%s", err.message);
    else if (!topic_template_is_constant(topic))
        config_report_mistake(loader->report, node, "status_topic", "no variable is allowed here");
    topic_template_free(topic);
}

void config_load_mqtt(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config *config = base;

    if (!config_expect_map(loader, node))
        return;
    config->mqtt.is_configured = true;
    config->mqtt.line = node->line;
    config_directives_default(loader, "publishers.mqtt", config);
    config_directives_apply(loader, node, "publishers.mqtt", config);
    check_mqtt(loader, node);
}
