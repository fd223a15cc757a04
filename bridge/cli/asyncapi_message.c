#include "bridge/cli/asyncapi_message.h"

#include <stdbool.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/json_writer.h"
#include "bridge/cli/asyncapi_channels.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"
#include "schemas/catalog.h"
#include "schemas/encoder.h"
#include "schemas/field_policy.h"
#include "schemas/filter.h"
#include "schemas/json_schemas.h"

static void write_schema_reference(struct json_writer *writer, const char *name, const char *schema)
{
    json_writer_reference(writer, name, "#/components/schemas/%s", schema);
}

static void write_constant(struct json_writer *writer, const char *name, const char *value)
{
    json_writer_open_object(writer, name);
    json_writer_string(writer, "const", value);
    json_writer_close_object(writer);
}

/* Close's Event Log leaves the prefix of an activity out. */
static void write_object_type(struct json_writer *writer, const char *object_type)
{
    static const char prefix[] = "activity.";

    if (strncmp(object_type, prefix, sizeof(prefix) - 1) != 0) {
        write_constant(writer, "object_type", object_type);
        return;
    }
    json_writer_open_object(writer, "object_type");
    json_writer_open_array(writer, "enum");
    json_writer_string(writer, NULL, object_type);
    json_writer_string(writer, NULL, object_type + sizeof(prefix) - 1);
    json_writer_close_array(writer);
    json_writer_close_object(writer);
}

/* ---- payloads ---- */

/* The event object of this pair, as an element of an allOf: its family's schema and its names. */
static void write_event_of_pair(struct json_writer *writer, const char *name,
                                const struct topic_report_row *row)
{
    const char *schema = json_schema_of_type(text_of(row->object_type))->name;

    json_writer_open_object(writer, name);
    json_writer_open_array(writer, "allOf");
    write_schema_reference(writer, NULL, schema);
    json_writer_open_object(writer, NULL);
    json_writer_open_object(writer, "properties");
    write_object_type(writer, row->object_type);
    write_constant(writer, "action", row->action);
    json_writer_close_object(writer);
    json_writer_close_object(writer);
    json_writer_close_array(writer);
    json_writer_close_object(writer);
}

static void begin_wrapped(struct json_writer *writer, const char *schema)
{
    json_writer_open_object(writer, "payload");
    json_writer_open_array(writer, "allOf");
    write_schema_reference(writer, NULL, schema);
    json_writer_open_object(writer, NULL);
    json_writer_open_object(writer, "properties");
}

static void end_wrapped(struct json_writer *writer)
{
    json_writer_close_object(writer);
    json_writer_close_object(writer);
    json_writer_close_array(writer);
    json_writer_close_object(writer);
}

static void write_structured(struct json_writer *writer, const struct topic_report_row *row)
{
    begin_wrapped(writer, "cloudevent");
    json_writer_open_object(writer, "type");
    json_writer_printf(writer, "const", "com.close.%s.%s", row->object_type, row->action);
    json_writer_close_object(writer);
    write_event_of_pair(writer, "data", row);
    end_wrapped(writer);
}

/* In the older shape `event` is a name. */
static void write_body(struct json_writer *writer, const struct topic_report_row *row)
{
    begin_wrapped(writer, "body");
    json_writer_open_object(writer, "event");
    json_writer_open_array(writer, "anyOf");
    json_writer_open_object(writer, NULL);
    json_writer_string(writer, "type", "string");
    json_writer_close_object(writer);
    write_event_of_pair(writer, NULL, row);
    json_writer_close_array(writer);
    json_writer_close_object(writer);
    end_wrapped(writer);
}

static bool is_tombstone(const struct asyncapi_message *message)
{
    return message->destination->target->tombstone && strcmp(message->row->action, "deleted") == 0;
}

static void write_payload(struct json_writer *writer, const struct asyncapi_message *message)
{
    if (is_tombstone(message)) {
        json_writer_open_object(writer, "payload");
        json_writer_string(writer, "type", "null");
        json_writer_string(writer, "description", "A tombstone: the record has no value.");
        json_writer_close_object(writer);
        return;
    }
    switch (message->destination->target->format) {
    case FORMAT_EVENT:
    case FORMAT_MSGPACK:
        write_event_of_pair(writer, "payload", message->row);
        return;
    case FORMAT_RAW:
        write_body(writer, message->row);
        return;
    case FORMAT_CLOUDEVENTS:
        write_structured(writer, message->row);
        return;
    }
}

/* ---- bindings ---- */

static void write_kafka_key(struct json_writer *writer, const struct config_target *target)
{
    static const struct {
        const char *type; /* JSON */
        const char *description;
    } keys[] = {
        [KEY_LEAD_ID] = {"\"string\"", "lead_id; without one object_id, without that the event's "
                                       "id."},
        [KEY_OBJECT_ID] = {"[\"string\", \"null\"]", "object_id"},
        [KEY_EVENT_ID] = {"\"string\"", "The event's id."},
        [KEY_ORGANIZATION_ID] = {"[\"string\", \"null\"]", "organization_id"},
        [KEY_NONE] = {"\"null\"", "There is no key."},
        [KEY_TEMPLATE] = {"\"string\"", NULL},
    };

    json_writer_open_object(writer, "key");
    json_writer_json(writer, "type", text_of(keys[target->key].type));
    if (keys[target->key].description)
        json_writer_string(writer, "description", keys[target->key].description);
    else
        json_writer_printf(writer, "description", "Made of the template %s", target->key_source);
    json_writer_close_object(writer);
}

static void write_kafka_binding(struct json_writer *writer, const struct config_target *target)
{
    json_writer_open_object(writer, "kafka");
    write_kafka_key(writer, target);
    json_writer_string(writer, "bindingVersion", "0.5.0");
    json_writer_close_object(writer);
}

static void write_mqtt_binding(struct json_writer *writer, const struct config_target *target)
{
    json_writer_open_object(writer, "mqtt");
    json_writer_int(writer, "payloadFormatIndicator", target->format != FORMAT_MSGPACK);
    json_writer_string(writer, "contentType", format_content_type(target->format, true));
    json_writer_string(writer, "bindingVersion", "0.2.0");
    json_writer_close_object(writer);
}

/* ---- messages ---- */

static void write_fields(struct json_writer *writer, const struct field_policy *fields)
{
    struct buf json = {0};

    field_policy_append_json(fields, &json);
    json_writer_json(writer, "x-fields", buf_text(&json));
    buf_release(&json);
}

static void write_titles(struct json_writer *writer, const struct asyncapi_message *message)
{
    const struct topic_report_row *row = message->row;
    const struct config_entry *entry = message->destination->entry;

    json_writer_printf(writer, "name", "com.close.%s.%s", row->object_type, row->action);
    if (row->known)
        json_writer_string(writer, "title", row->known->label);
    if (entry->filter)
        json_writer_string(writer, "summary", "Only what the filter lets through.");
    else if (message->destination->is_conditional)
        json_writer_string(writer, "summary", "Only what no other entry of the topic map took.");
    if (entry->filter)
        json_writer_json(writer, "x-extra-filter", filter_json(entry->filter));
    if (entry->fields)
        write_fields(writer, entry->fields);
    json_writer_string(writer, "x-status", topic_report_status(row));
}

static void write_binding(struct json_writer *writer, const struct asyncapi_message *message)
{
    json_writer_open_object(writer, "bindings");
    if (message->destination->publisher == PUBLISHER_KAFKA)
        write_kafka_binding(writer, message->destination->target);
    else
        write_mqtt_binding(writer, message->destination->target);
    json_writer_close_object(writer);
}

void asyncapi_message_write(struct json_writer *writer, const struct config *config,
                            const struct asyncapi_message *message)
{
    bool is_kafka = message->destination->publisher == PUBLISHER_KAFKA;
    bool has_properties = is_kafka || config->mqtt_options.version == 5;
    enum format format = message->destination->target->format;

    if (is_tombstone(message) && !format_is_binary_mode(format))
        format = FORMAT_EVENT;
    json_writer_open_object(writer, message->name);
    write_titles(writer, message);
    json_writer_string(writer, "contentType", format_content_type(format, !is_kafka));
    if (has_properties) {
        write_schema_reference(writer, "headers", is_kafka ? "kafka-headers" : "mqtt-properties");
        write_binding(writer, message);
    }
    write_payload(writer, message);
    json_writer_close_object(writer);
}

void asyncapi_message_write_dead_letter(struct json_writer *writer)
{
    json_writer_open_object(writer, "dead-letter");
    json_writer_string(writer, "name", "dead-letter");
    json_writer_string(writer, "title", "A copy of a dead letter");
    write_schema_reference(writer, "headers", "kafka-headers");
    json_writer_open_object(writer, "payload");
    json_writer_string(writer, "description",
                       "The event; of what is none the whole body, which need not be JSON. The "
                       "headers say why it was not delivered.");
    json_writer_close_object(writer);
    json_writer_close_object(writer);
}

void asyncapi_message_write_status(struct json_writer *writer)
{
    json_writer_open_object(writer, "status");
    json_writer_string(writer, "name", "status");
    json_writer_string(writer, "title", "Whether the bridge is connected");
    json_writer_string(writer, "contentType", "text/plain");
    json_writer_open_object(writer, "payload");
    json_writer_open_array(writer, "enum");
    json_writer_string(writer, NULL, "online");
    json_writer_string(writer, NULL, "offline");
    json_writer_close_array(writer);
    json_writer_close_object(writer);
    json_writer_close_object(writer);
}
