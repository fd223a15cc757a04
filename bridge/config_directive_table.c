#include <stdint.h>

#include "bridge/config.h"
#include "bridge/config_directives.h"
#include "bridge/config_parts.h"

#define AT(member) .offset = offsetof(struct config, member)
#define ACCOUNT_AT(member) .offset = offsetof(struct config_account, member)
#define ENTRY_AT(member) .offset = offsetof(struct config_entry, member)
#define TARGET_AT(member) .offset = offsetof(struct config_target, member)

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const char *const acknowledge_names[] = {"journal", "broker", NULL};
static const char *const on_stop_names[] = {"keep", "unsubscribe", NULL};
static const char *const overflow_names[] = {"refuse", "drop_oldest", NULL};
static const char *const no_subscribers_names[] = {"ok", "retry", "dead_letter", NULL};
static const char *const qos_names[] = {"0", "1", "2", NULL};

/* The order of the sample file; defaults are written as in a file. */
const struct directive config_directives[] = {
    {"listen.address", DIRECTIVE_CUSTOM, .default_value = "0.0.0.0:8080",
     .parse = config_parse_listen_address, .help = "Address and port that receive webhooks."},
    {"listen.tls.certificate", DIRECTIVE_PATH, AT(listen.tls.certificate), .min = 1, .max = 4096,
     .is_required = true, .help = "PEM file of the certificate and its chain."},
    {"listen.tls.key", DIRECTIVE_PATH, AT(listen.tls.key), .min = 1, .max = 4096,
     .is_required = true, .help = "PEM file of the private key."},
    {"listen.max_body", DIRECTIVE_BYTES, AT(listen.max_body), .default_value = "8MiB", .min = KIB,
     .max = 64 * MIB, .help = "Larger bodies are answered with 413."},
    {"listen.threads", DIRECTIVE_COUNT, AT(listen.threads), .min = 1, .max = 256,
     .help = "Event loops; one per core unless set."},
    {"listen.health_path", DIRECTIVE_CUSTOM, .parse = config_parse_health_path,
     .help = "Path on the public listener that answers 200 or 503, for load balancers."},
    {"control.address", DIRECTIVE_CUSTOM, .default_value = "127.0.0.1:8081",
     .parse = config_parse_control_address,
     .help = "Address and port, or unix:PATH, of the control listener."},
    {"control.token", DIRECTIVE_SECRET, AT(control.token), .min = 16, .max = 1024,
     .help = "Bearer token; needed unless the address is loopback or a socket."},
    {"journal.path", DIRECTIVE_PATH, AT(journal.path), .default_value = "./close-bridge.state",
     .min = 1, .max = 4000, .help = "Folder of the journal."},
    {"journal.acknowledge", DIRECTIVE_CHOICE, AT(journal.acknowledge), .default_value = "journal",
     .choices = acknowledge_names, .help = "What makes an event durable before the 200."},
    {"journal.acknowledge_timeout", DIRECTIVE_DURATION, AT(journal.acknowledge_timeout_ms),
     .default_value = "8s", .min = SECOND, .max = 14 * SECOND,
     .help = "Broker mode: 503 after this time. Close waits 15 s."},
    {"journal.retention", DIRECTIVE_DURATION, AT(journal.retention_ms), .default_value = "72h",
     .max = 365 * DAY, .help = "How long delivered events are kept for replay."},
    {"journal.max_size", DIRECTIVE_BYTES, AT(journal.max_size), .default_value = "4GiB", .min = MIB,
     .max = 4 * TIB, .help = "Full of undelivered events it answers 503."},
    {"journal.dedupe_window", DIRECTIVE_DURATION, AT(journal.dedupe_window_ms),
     .default_value = "96h", .min = MINUTE, .max = 90 * DAY,
     .help = "How long a redelivery is recognised; Close retries for 72 h."},
    {"journal.dedupe_max", DIRECTIVE_COUNT, AT(journal.dedupe_max), .default_value = "2000000",
     .min = 1000, .max = 100000000, .help = "Marks in memory; over it the oldest go."},
    {"dead_letters.kafka.topic", DIRECTIVE_STRING, AT(dead_letter_topic), .min = 1, .max = 249,
     .is_required = true, .help = "Kafka topic that gets a copy of every dead letter."},
    {"accounts", DIRECTIVE_NODE, .load = config_load_accounts, .is_required = true,
     .help = "The Close organizations that post here."},
    {"publishers.kafka", DIRECTIVE_NODE, .load = config_load_kafka,
     .help = "Kafka: any property of librdkafka, and the keys below."},
    {"publishers.mqtt", DIRECTIVE_NODE, .load = config_load_mqtt, .help = "MQTT."},
    {"topic_map", DIRECTIVE_NODE, .load = config_load_entries, .is_required = true,
     .help = "Which events go to which topics. Every entry that matches publishes."},

    {"accounts[].name", DIRECTIVE_STRING, ACCOUNT_AT(name), .min = 1, .max = 64,
     .is_required = true, .help = "Close posts to /webhooks/NAME."},
    {"accounts[].api_key", DIRECTIVE_SECRET, ACCOUNT_AT(api_key), .min = 1, .max = 4096,
     .help = "Key for Close's API."},
    {"accounts[].oauth_token", DIRECTIVE_SECRET, ACCOUNT_AT(oauth_token), .min = 1, .max = 4096,
     .help = "Instead of api_key."},
    {"accounts[].api_url", DIRECTIVE_CUSTOM, .default_value = "https://api.close.com/api/v1",
     .parse = config_parse_close_url, .help = "Close's API."},
    {"accounts[].webhook_url", DIRECTIVE_CUSTOM, .parse = config_parse_webhook_url,
     .help = "Where Close reaches this bridge."},
    {"accounts[].signature_keys", DIRECTIVE_NODE, .load = config_load_signature_keys,
     .help = "Keys of subscriptions made elsewhere, 64 hex digits each: a list, or one value "
             "with a key a line."},
    {"accounts[].replay_window", DIRECTIVE_DURATION, ACCOUNT_AT(replay_window_ms),
     .default_value = "80h", .min = SECOND, .max = 90 * DAY, .zero_is_off = true,
     .help = "Largest age of close-sig-timestamp, either way; 0 is off."},
    {"accounts[].sync", DIRECTIVE_CUSTOM, .default_value = "startup", .parse = config_parse_sync,
     .help = "When subscriptions are made to match: startup, manual or an interval."},
    {"accounts[].verify_ssl", DIRECTIVE_BOOL, ACCOUNT_AT(verify_ssl), .default_value = "true",
     .help = "Whether Close verifies the certificate of webhook_url."},
    {"accounts[].on_stop", DIRECTIVE_CHOICE, ACCOUNT_AT(on_stop), .default_value = "keep",
     .choices = on_stop_names,
     .help =
         "What becomes of the subscription when the bridge stops: events wait at Close for 72 h "
         "(keep), or none are sent any more (unsubscribe)."},

    {"publishers.kafka.overflow", DIRECTIVE_CHOICE, AT(kafka.overflow), .default_value = "refuse",
     .choices = overflow_names, .help = "When the journal is full because of this publisher."},
    {"publishers.kafka.window", DIRECTIVE_COUNT, AT(kafka.window), .default_value = "4000",
     .min = 1, .max = 100000, .help = "Events between the newest sent and the durable cursor."},
    {"publishers.kafka.retry_for", DIRECTIVE_DURATION, AT(kafka.retry_for_ms),
     .default_value = "24h", .max = 90 * DAY,
     .help = "How long a refused topic is tried before its records are dead letters."},
    {"publishers.kafka.create_topics", DIRECTIVE_CUSTOM, .parse = config_parse_create_topics,
     .help = "false: topics are made by their owner or by the broker."},

    {"publishers.mqtt.url", DIRECTIVE_CUSTOM, .parse = config_parse_mqtt_url, .is_required = true,
     .help = "mqtt://HOST[:1883] or mqtts://HOST[:8883]."},
    {"publishers.mqtt.version", DIRECTIVE_CUSTOM, .default_value = "5",
     .parse = config_parse_mqtt_version, .help = "5 or 3.1.1."},
    {"publishers.mqtt.username", DIRECTIVE_STRING, AT(mqtt_options.username), .min = 1,
     .max = 65535, .help = "User name."},
    {"publishers.mqtt.password", DIRECTIVE_SECRET, AT(mqtt_options.password), .min = 1,
     .max = 65535, .help = "Password."},
    {"publishers.mqtt.ca", DIRECTIVE_PATH, AT(mqtt_options.ca), .min = 1, .max = 4096,
     .help = "PEM file of the authorities to trust; the system's unless set."},
    {"publishers.mqtt.certificate", DIRECTIVE_PATH, AT(mqtt_options.certificate), .min = 1,
     .max = 4096, .help = "PEM file of the client's certificate."},
    {"publishers.mqtt.key", DIRECTIVE_PATH, AT(mqtt_options.key), .min = 1, .max = 4096,
     .help = "PEM file of the client's key."},
    {"publishers.mqtt.keepalive", DIRECTIVE_DURATION, AT(mqtt_options.keepalive_ms),
     .default_value = "10s", .min = 5 * SECOND, .max = HOUR,
     .help = "A silent broker is noticed after at most twice this time."},
    {"publishers.mqtt.message_expiry", DIRECTIVE_SECONDS, AT(mqtt_options.message_expiry_s),
     .default_value = "0", .max = UINT32_MAX,
     .help = "Seconds until the broker drops it; 0 never."},
    {"publishers.mqtt.client_id", DIRECTIVE_STRING, AT(mqtt_options.client_id), .default_value = "",
     .max = 65535, .help = "Empty: the broker assigns one."},
    {"publishers.mqtt.no_subscribers", DIRECTIVE_CHOICE, AT(mqtt_options.no_subscribers),
     .default_value = "ok", .choices = no_subscribers_names,
     .help = "What a broker's answer \"no matching subscribers\" means."},
    {"publishers.mqtt.status_topic", DIRECTIVE_STRING, AT(mqtt_options.status_topic), .min = 1,
     .max = 1024, .help = "Topic of the retained online and offline messages."},
    {"publishers.mqtt.overflow", DIRECTIVE_CHOICE, AT(mqtt.overflow), .default_value = "refuse",
     .choices = overflow_names, .help = "When the journal is full because of this publisher."},
    {"publishers.mqtt.window", DIRECTIVE_COUNT, AT(mqtt.window), .default_value = "500", .min = 1,
     .max = 1000, .help = "Events between the newest sent and the durable cursor."},
    {"publishers.mqtt.retry_for", DIRECTIVE_DURATION, AT(mqtt.retry_for_ms), .default_value = "24h",
     .max = 90 * DAY,
     .help = "How long a refused topic is tried before its records are dead letters."},

    {"topic_map[].object_type", DIRECTIVE_CUSTOM, .parse = config_parse_object_type,
     .help = "An object type, a prefix such as activity.*, or *."},
    {"topic_map[].action", DIRECTIVE_NODE, .load = config_load_actions,
     .help = "One action, a list, or * (every action, the default)."},
    {"topic_map[].category", DIRECTIVE_STRING, ENTRY_AT(category), .min = 1, .max = 128,
     .help = "Instead of object_type: a category of the catalog."},
    {"topic_map[].labels", DIRECTIVE_NODE, .load = config_load_labels,
     .help = "With a category: only these labels."},
    {"topic_map[].group", DIRECTIVE_STRING, ENTRY_AT(group), .min = 1, .max = 128,
     .help = "With a category: only this group."},
    {"topic_map[].account", DIRECTIVE_STRING, ENTRY_AT(account), .min = 1, .max = 64,
     .help = "Only this account."},
    {"topic_map[].fallback", DIRECTIVE_BOOL, ENTRY_AT(fallback), .default_value = "false",
     .help = "Only events that no other entry matched."},
    {"topic_map[].extra_filter", DIRECTIVE_NODE, .load = config_load_filter,
     .help = "Close's filter; events that do not pass it do not match."},
    {"topic_map[].fields", DIRECTIVE_NODE, .load = config_load_fields,
     .help = "What consumers get of an event: drop or keep, not with format raw."},
    {"topic_map[].kafka", DIRECTIVE_NODE, .load = config_load_kafka_target, .help = "To Kafka."},
    {"topic_map[].mqtt", DIRECTIVE_NODE, .load = config_load_mqtt_target, .help = "To MQTT."},

    {"topic_map[].fields.drop", DIRECTIVE_NODE, .load = config_load_field_paths,
     .help = "Paths such as data.emails that are cut out; under data they count for previous_data "
             "too."},
    {"topic_map[].fields.keep", DIRECTIVE_NODE, .load = config_load_field_paths,
     .help = "Instead: the only paths that stay of data and previous_data."},

    {"topic_map[].kafka.topic", DIRECTIVE_STRING, TARGET_AT(topic_source), .min = 1, .max = 1024,
     .is_required = true, .help = "Topic, a template such as close.{object_type}."},
    {"topic_map[].kafka.key", DIRECTIVE_CUSTOM, .default_value = "lead_id",
     .parse = config_parse_key,
     .help = "Partition key: lead_id, object_id, event_id, organization_id, none or a template."},
    {"topic_map[].kafka.format", DIRECTIVE_CUSTOM, .default_value = "event",
     .parse = config_parse_format, .help = "event, raw, cloudevents or msgpack."},
    {"topic_map[].kafka.timestamp", DIRECTIVE_CUSTOM, .default_value = "received",
     .parse = config_parse_timestamp,
     .help = "The record's timestamp: received (default) or event."},
    {"topic_map[].kafka.tombstone", DIRECTIVE_BOOL, TARGET_AT(tombstone), .default_value = "false",
     .help = "A null value for deletions; needs key: object_id."},

    {"topic_map[].mqtt.topic", DIRECTIVE_STRING, TARGET_AT(topic_source), .min = 1, .max = 1024,
     .is_required = true, .help = "Topic, a template such as close/{object_type}/{action}."},
    {"topic_map[].mqtt.qos", DIRECTIVE_CHOICE, TARGET_AT(qos), .default_value = "1",
     .choices = qos_names, .help = "0 is outside the promise and refused in broker mode."},
    {"topic_map[].mqtt.retain", DIRECTIVE_BOOL, TARGET_AT(retain), .default_value = "false",
     .help = "The broker keeps the last message of each topic."},
    {"topic_map[].mqtt.format", DIRECTIVE_CUSTOM, .default_value = "event",
     .parse = config_parse_format, .help = "event, raw, cloudevents or msgpack."},
};

const size_t config_directive_count = sizeof(config_directives) / sizeof(config_directives[0]);
