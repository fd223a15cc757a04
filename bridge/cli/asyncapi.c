#include "bridge/cli/asyncapi.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/json_writer.h"
#include "bridge/cli/asyncapi_channels.h"
#include "bridge/cli/asyncapi_message.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"
#include "bridge/runtime/version.h"
#include "schemas/json_schemas.h"

enum { SERVER_NAME = 32 };

/* ---- servers ---- */

/* kafka, kafka-2, kafka-3 ... */
static void name_server(enum publisher_index publisher, unsigned number, char name[SERVER_NAME])
{
    const char *first = topic_report_publisher_name(publisher);

    if (number > 1)
        snprintf(name, SERVER_NAME, "%s-%u", first, number);
    else
        snprintf(name, SERVER_NAME, "%s", first);
}

static const char *kafka_property(const struct config *config, const char *name)
{
    const struct kafka_options *options = &config->kafka_options;

    for (size_t i = 0; i < options->property_count; i++) {
        if (strcmp(options->properties[i].name, name) == 0)
            return options->properties[i].value;
    }
    return NULL;
}

static bool is_encrypted(struct text security_protocol)
{
    return text_equal_string(security_protocol, "ssl") ||
           text_equal_string(security_protocol, "sasl_ssl") ||
           text_equal_string(security_protocol, "SSL") ||
           text_equal_string(security_protocol, "SASL_SSL");
}

/* One broker of bootstrap.servers: host:port, with or without the protocol before it. */
static void write_kafka_server(struct json_writer *writer, struct text broker,
                               struct text security_protocol, unsigned number)
{
    const char *scheme_end = memmem(broker.data, broker.size, "://", 3);
    char name[SERVER_NAME];

    if (scheme_end) {
        security_protocol = (struct text){broker.data, (size_t)(scheme_end - broker.data)};
        broker.size -= security_protocol.size + 3;
        broker.data = scheme_end + 3;
    }
    name_server(PUBLISHER_KAFKA, number, name);
    json_writer_open_object(writer, name);
    json_writer_printf(writer, "host", "%.*s", (int)broker.size, broker.data);
    json_writer_string(writer, "protocol",
                       is_encrypted(security_protocol) ? "kafka-secure" : "kafka");
    json_writer_close_object(writer);
}

/* Returns how many there are. */
static unsigned each_kafka_server(const struct config *config, struct json_writer *writer)
{
    const char *protocol = kafka_property(config, "security.protocol");
    const char *at = kafka_property(config, "bootstrap.servers");
    unsigned count = 0;

    if (!at)
        at = kafka_property(config, "metadata.broker.list");
    while (at && *at) {
        struct text broker = {at, strcspn(at, ",")};

        at += broker.size;
        at += strspn(at, ", ");
        while (broker.size > 0 && broker.data[broker.size - 1] == ' ')
            broker.size--;
        if (broker.size == 0)
            continue;
        count++;
        if (writer)
            write_kafka_server(writer, broker, text_of(protocol), count);
    }
    return count;
}

static void write_mqtt_server(struct json_writer *writer, const struct mqtt_options *options)
{
    json_writer_open_object(writer, "mqtt");
    json_writer_printf(writer, "host", strchr(options->host, ':') ? "[%s]:%u" : "%s:%u",
                       options->host, options->port);
    json_writer_string(writer, "protocol", options->use_tls ? "secure-mqtt" : "mqtt");
    json_writer_string(writer, "protocolVersion", options->version == 5 ? "5.0" : "3.1.1");
    json_writer_close_object(writer);
}

static void write_servers(struct json_writer *writer, const struct config *config)
{
    json_writer_open_object(writer, "servers");
    if (config->kafka.is_configured)
        each_kafka_server(config, writer);
    if (config->mqtt.is_configured)
        write_mqtt_server(writer, &config->mqtt_options);
    json_writer_close_object(writer);
}

/* ---- channels ---- */

static void write_channel_servers(struct json_writer *writer, const struct config *config,
                                  enum publisher_index publisher)
{
    unsigned count = publisher == PUBLISHER_KAFKA ? each_kafka_server(config, NULL) : 1;
    char name[SERVER_NAME];

    json_writer_open_array(writer, "servers");
    for (unsigned i = 1; i <= count; i++) {
        name_server(publisher, i, name);
        json_writer_reference(writer, NULL, "#/servers/%s", name);
    }
    json_writer_close_array(writer);
}

static void begin_channel(struct json_writer *writer, const struct config *config, const char *id,
                          enum publisher_index publisher, const char *address)
{
    json_writer_open_object(writer, id);
    json_writer_string(writer, "address", address);
    write_channel_servers(writer, config, publisher);
    if (publisher != PUBLISHER_KAFKA)
        return;
    json_writer_open_object(writer, "bindings");
    json_writer_open_object(writer, "kafka");
    json_writer_string(writer, "topic", address);
    json_writer_string(writer, "bindingVersion", "0.5.0");
    json_writer_close_object(writer);
    json_writer_close_object(writer);
}

static void write_parameters(struct json_writer *writer, const char *address)
{
    static const struct {
        const char *name;
        const char *expression;
        const char *description;
    } variables[] = {{"lead_id", "{lead_id}", "lead_id of the event, `none` without one."},
                     {"object_id", "{object_id}", "object_id of the event, `none` without one."}};

    if (!strchr(address, '{'))
        return;
    json_writer_open_object(writer, "parameters");
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        if (!strstr(address, variables[i].expression))
            continue;
        json_writer_open_object(writer, variables[i].name);
        json_writer_string(writer, "description", variables[i].description);
        json_writer_close_object(writer);
    }
    json_writer_close_object(writer);
}

static void write_channel(struct json_writer *writer, const struct config *config,
                          const struct asyncapi_channel *channel)
{
    begin_channel(writer, config, channel->id, channel->publisher, channel->address);
    write_parameters(writer, channel->address);
    json_writer_open_object(writer, "messages");
    for (size_t i = 0; i < channel->count; i++)
        asyncapi_message_write(writer, config, &channel->messages[i]);
    json_writer_close_object(writer);
    json_writer_close_object(writer);
}

static bool has_status(const struct config *config)
{
    return config->mqtt.is_configured && config->mqtt_options.status_topic;
}

/* The ids of the bridge's own channels have no dot, so that no topic's is the same. */
static void write_own_channels(struct json_writer *writer, const struct config *config)
{
    if (config->dead_letter_topic) {
        begin_channel(writer, config, "dead-letters", PUBLISHER_KAFKA, config->dead_letter_topic);
        json_writer_open_object(writer, "messages");
        asyncapi_message_write_dead_letter(writer);
        json_writer_close_object(writer);
        json_writer_close_object(writer);
    }
    if (has_status(config)) {
        begin_channel(writer, config, "status", PUBLISHER_MQTT, config->mqtt_options.status_topic);
        json_writer_open_object(writer, "messages");
        asyncapi_message_write_status(writer);
        json_writer_close_object(writer);
        json_writer_close_object(writer);
    }
}

/* ---- operations ---- */

static void begin_operation(struct json_writer *writer, const char *channel_id, unsigned number)
{
    struct buf id = {0};

    buf_append_string(&id, "send");
    if (number > 1)
        buf_printf(&id, "-%u", number);
    buf_printf(&id, ".%s", channel_id);
    json_writer_open_object(writer, buf_text(&id).data);
    buf_release(&id);
    json_writer_string(writer, "action", "send");
    json_writer_reference(writer, "channel", "#/channels/%s", channel_id);
}

static void write_mqtt_binding(struct json_writer *writer, const struct config *config, int qos,
                               bool retain)
{
    uint32_t expiry_s = config->mqtt_options.message_expiry_s;

    json_writer_open_object(writer, "bindings");
    json_writer_open_object(writer, "mqtt");
    json_writer_int(writer, "qos", qos);
    json_writer_bool(writer, "retain", retain);
    if (expiry_s > 0 && config->mqtt_options.version == 5)
        json_writer_int(writer, "messageExpiryInterval", expiry_s);
    json_writer_string(writer, "bindingVersion", "0.2.0");
    json_writer_close_object(writer);
    json_writer_close_object(writer);
}

static bool is_sent_alike(const struct asyncapi_message *a, const struct asyncapi_message *b)
{
    const struct config_target *one = a->destination->target;
    const struct config_target *other = b->destination->target;

    return one->qos == other->qos && one->retain == other->retain;
}

static void write_operation_messages(struct json_writer *writer,
                                     const struct asyncapi_channel *channel,
                                     const struct asyncapi_message *first)
{
    json_writer_open_array(writer, "messages");
    for (size_t i = 0; i < channel->count; i++) {
        if (is_sent_alike(first, &channel->messages[i]))
            json_writer_reference(writer, NULL, "#/channels/%s/messages/%s", channel->id,
                                  channel->messages[i].name);
    }
    json_writer_close_array(writer);
}

/* One for the messages that are sent alike: entries of one MQTT topic may differ by their QoS. */
static void write_operations_of(struct json_writer *writer, const struct config *config,
                                const struct asyncapi_channel *channel)
{
    unsigned number = 0;

    for (size_t i = 0; i < channel->count; i++) {
        const struct asyncapi_message *first = &channel->messages[i];
        size_t earlier = 0;

        while (earlier < i && !is_sent_alike(first, &channel->messages[earlier]))
            earlier++;
        if (earlier < i)
            continue;
        begin_operation(writer, channel->id, ++number);
        write_operation_messages(writer, channel, first);
        if (channel->publisher == PUBLISHER_MQTT)
            write_mqtt_binding(writer, config, first->destination->target->qos,
                               first->destination->target->retain);
        json_writer_close_object(writer);
    }
}

static void write_own_operations(struct json_writer *writer, const struct config *config)
{
    if (config->dead_letter_topic) {
        begin_operation(writer, "dead-letters", 1);
        json_writer_close_object(writer);
    }
    if (has_status(config)) {
        begin_operation(writer, "status", 1);
        write_mqtt_binding(writer, config, 1, true);
        json_writer_close_object(writer);
    }
}

/* ---- schemas ---- */

static bool refers_to(struct text json, const char *schema)
{
    struct buf reference = {0};
    bool found;

    buf_printf(&reference, "\"#/components/schemas/%s\"", schema);
    found = memmem(json.data, json.size, reference.data, reference.size) != NULL;
    reference.data[reference.size - 1] = '/';
    found = found || memmem(json.data, json.size, reference.data, reference.size);
    buf_release(&reference);
    return found;
}

static bool is_wanted(const struct buf *document, const bool *chosen, const char *schema)
{
    if (refers_to(buf_text(document), schema))
        return true;
    for (size_t i = 0; i < json_schemas_size; i++) {
        if (chosen[i] && refers_to(json_schemas[i].json, schema))
            return true;
    }
    return false;
}

/* What the document refers to so far, and what that refers to. */
static void write_schemas(struct json_writer *writer)
{
    bool *chosen = alloc_zeroed(json_schemas_size, sizeof(*chosen));
    bool has_more = true;

    while (has_more) {
        has_more = false;
        for (size_t i = 0; i < json_schemas_size; i++) {
            if (chosen[i] || !is_wanted(writer->out, chosen, json_schemas[i].name))
                continue;
            chosen[i] = true;
            has_more = true;
        }
    }
    json_writer_open_object(writer, "schemas");
    for (size_t i = 0; i < json_schemas_size; i++) {
        if (chosen[i])
            json_writer_json(writer, json_schemas[i].name, json_schemas[i].json);
    }
    json_writer_close_object(writer);
    free(chosen);
}

/* ---- the document ---- */

static void write_info(struct json_writer *writer)
{
    json_writer_string(writer, "asyncapi", "3.0.0");
    json_writer_open_object(writer, "info");
    json_writer_string(writer, "title", "Events of Close, from close-bridge");
    json_writer_string(writer, "version", CLOSE_BRIDGE_VERSION);
    json_writer_string(
        writer, "description",
        "What the bridge publishes, by topic. Every event is published at least once: `source` and "
        "`id` of its attributes name a version of it, so that consumers can recognise what they "
        "have seen. The order holds for each topic and key. Close has events that no document "
        "lists; "
        "those that match the topic map are published too.");
    json_writer_close_object(writer);
    json_writer_string(writer, "defaultContentType", "application/json");
}

void asyncapi_write(const struct config *config, struct buf *out)
{
    struct json_writer writer = {.out = out};
    struct topic_report *report = topic_report_make(config);
    struct asyncapi_channels channels;

    asyncapi_channels_make(&channels, report);
    json_writer_open_object(&writer, NULL);
    write_info(&writer);
    write_servers(&writer, config);
    json_writer_open_object(&writer, "channels");
    for (size_t i = 0; i < channels.count; i++)
        write_channel(&writer, config, &channels.channels[i]);
    write_own_channels(&writer, config);
    json_writer_close_object(&writer);
    json_writer_open_object(&writer, "operations");
    for (size_t i = 0; i < channels.count; i++)
        write_operations_of(&writer, config, &channels.channels[i]);
    write_own_operations(&writer, config);
    json_writer_close_object(&writer);
    json_writer_open_object(&writer, "components");
    write_schemas(&writer);
    json_writer_close_object(&writer);
    json_writer_close_object(&writer);
    buf_append_char(out, '\n');
    if (out->failed)
        abort(); /* no memory: see alloc.h */
    asyncapi_channels_release(&channels);
    topic_report_free(report);
}
