#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/config.h"
#include "bridge/config_directives.h"
#include "schemas/filter.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define KEY2 "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"

/* Parts of a file that is complete: a test replaces or adds to one of them. Each is one line. */
#define ACCOUNTS "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
#define PUBLISHERS "publishers: {kafka: {bootstrap.servers: \"localhost:9092\"}}\n"
#define TOPIC_MAP "topic_map: [{object_type: lead, kafka: {topic: leads}}]\n"
#define BASE ACCOUNTS PUBLISHERS TOPIC_MAP
#define MQTT "publishers: {mqtt: {url: \"mqtt://broker\"}}\n"

/* The configuration in `yaml` as the file c.yaml, or NULL; `messages` gets what is said. */
static struct config *parse(const char *yaml, struct buf *messages)
{
    return config_parse("c.yaml", text_of(yaml), messages);
}

static struct config *parse_good(const char *yaml)
{
    struct buf messages = {0};
    struct config *config = parse(yaml, &messages);

    if (messages.size)
        print_error("%s", messages.data);
    assert_int_equal(messages.size, 0);
    assert_non_null(config);
    buf_release(&messages);
    return config;
}

/* True when `expected` is one of the messages, as a whole line. */
static bool has_line(const struct buf *messages, const char *expected)
{
    size_t size = strlen(expected);

    for (const char *at = messages->data; at && *at; at = strchr(at, '\n') + 1) {
        if (strncmp(at, expected, size) == 0 && at[size] == '\n')
            return true;
    }
    return false;
}

/* A file and all that is said of it. */
struct said {
    const char *yaml;
    const char *messages;
};

static void check_said(const struct said *cases, size_t count, bool loads)
{
    for (size_t i = 0; i < count; i++) {
        struct buf messages = {0};
        struct config *config = parse(cases[i].yaml, &messages);

        if ((config != NULL) != loads)
            print_error("%s: %s\n%s", loads ? "refused" : "accepted", cases[i].yaml,
                        messages.data ? messages.data : "");
        assert_string_equal(messages.data ? messages.data : "", cases[i].messages);
        assert_int_equal(config != NULL, loads);
        config_free(config);
        buf_release(&messages);
    }
}

#define SAID(cases, loads) check_said(cases, sizeof(cases) / sizeof((cases)[0]), loads)

static void the_documented_example_loads(void **state)
{
    struct buf messages = {0};
    struct config *config;

    (void)state;
    setenv("CLOSE_BRIDGE_TOKEN", "0123456789abcdef", 1);
    setenv("CLOSE_API_KEY", "api_123", 1);
    config = config_load(TEST_DATA "/config/everything.yaml", &messages);
    assert_string_equal(messages.data ? messages.data : "", "");
    assert_non_null(config);
    assert_string_equal(config->listen.host, "0.0.0.0");
    assert_int_equal(config->listen.port, 8080);
    assert_string_equal(config->listen.tls.certificate, TEST_DATA "/config/cert.pem");
    assert_int_equal(config->listen.max_body, 8 << 20);
    assert_int_equal(config->listen.threads, 2);
    assert_string_equal(config->listen.health_path, "/health");
    assert_string_equal(config->control.token, "0123456789abcdef");
    assert_string_equal(config->journal.path, TEST_DATA "/config/close-bridge.state");
    assert_string_equal(config->dead_letter_topic, "close.dead-letters");
    assert_int_equal(config->account_count, 1);
    assert_string_equal(config->accounts[0].api_key, "api_123");
    assert_string_equal(config->accounts[0].webhook_url, "https://hooks.example.com/webhooks/main");
    assert_int_equal(config->accounts[0].signature_key_count, 0);
    assert_int_equal(config->kafka_options.property_count, 1);
    assert_string_equal(config->kafka_options.properties[0].name, "bootstrap.servers");
    assert_string_equal(config->kafka_options.properties[0].value, "localhost:9092");
    assert_int_equal(config->kafka_options.properties[0].line, 31);
    assert_string_equal(config->mqtt_options.username, "bridge");
    assert_string_equal(config->mqtt_options.status_topic, "close-bridge/status");
    assert_int_equal(config->entry_count, 3);
    assert_string_equal(config->entries[0].object_type, "lead");
    assert_int_equal(config->entries[0].action_count, 2);
    assert_string_equal(config->entries[0].actions[1], "updated");
    assert_string_equal(config->entries[0].account, "main");
    assert_string_equal(config->entries[1].category, "opportunity");
    assert_string_equal(config->entries[1].labels[0], "Opportunity in New Status");
    assert_non_null(config->entries[1].filter);
    assert_true(config->entries[2].fallback);
    config_free(config);
    buf_release(&messages);
}

/* It shows the defaults: what it sets must be what is set without it. */
static void the_packaged_example_loads(void **state)
{
    struct buf messages = {0};
    struct config *config;

    (void)state;
    setenv("CLOSE_SIGNATURE_KEY", KEY, 1);
    setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", 1);
    setenv("MQTT_URL", "mqtts://broker", 1);
    config = config_load(PACKAGING "/close-bridge.yaml", &messages);
    assert_string_equal(messages.data ? messages.data : "", "");
    assert_non_null(config);
    assert_int_equal(config->accounts[0].signature_key_count, 1);
    assert_string_equal(config->kafka_options.properties[0].value, "kafka:9092");
    assert_int_equal(config->mqtt_options.port, 8883);
    assert_int_equal(config->journal.dedupe_max, 2000000);
    assert_int_equal(config->entry_count, 4);
    config_free(config);
}

static void defaults_are_those_of_the_contract(void **state)
{
    struct config *config =
        parse_good(ACCOUNTS "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: mqtt://m}}\n"
                            "topic_map: [{object_type: '*', kafka: {topic: t}, mqtt: {topic: t}}]");
    const struct config_target *kafka = &config->entries[0].kafka;
    const struct config_target *mqtt = &config->entries[0].mqtt;

    (void)state;
    assert_string_equal(config->path, "c.yaml");
    assert_string_equal(config->listen.host, "0.0.0.0");
    assert_int_equal(config->listen.port, 8080);
    assert_null(config->listen.tls.certificate);
    assert_null(config->listen.health_path);
    assert_int_equal(config->listen.max_body, 8 << 20);
    assert_true(config->listen.threads >= 1);
    assert_string_equal(config->control.host, "127.0.0.1");
    assert_int_equal(config->control.port, 8081);
    assert_null(config->control.socket_path);
    assert_null(config->control.token);
    assert_string_equal(config->journal.path, "./close-bridge.state");
    assert_int_equal(config->journal.acknowledge, ACKNOWLEDGE_JOURNAL);
    assert_int_equal(config->journal.acknowledge_timeout_ms, 8000);
    assert_int_equal(config->journal.retention_ms, 72 * 3600000LL);
    assert_int_equal(config->journal.max_size, 4LL << 30);
    assert_int_equal(config->journal.dedupe_window_ms, 96 * 3600000LL);
    assert_int_equal(config->journal.dedupe_max, 2000000);
    assert_null(config->dead_letter_topic);
    assert_int_equal(config->accounts[0].replay_window_ms, 80 * 3600000LL);
    assert_int_equal(config->accounts[0].sync, SYNC_STARTUP);
    assert_true(config->accounts[0].verify_ssl);
    assert_string_equal(config->accounts[0].api_url, "https://api.close.com/api/v1");
    assert_int_equal(config->accounts[0].signature_key_count, 1);
    assert_int_equal(config->accounts[0].signature_keys[0][0], 0xb9);
    assert_int_equal(config->accounts[0].signature_keys[0][31], 0xb4);
    assert_int_equal(config->kafka.overflow, OVERFLOW_REFUSE);
    assert_int_equal(config->kafka.window, 4000);
    assert_int_equal(config->kafka.retry_for_ms, 86400000);
    assert_int_equal(config->kafka_options.message_timeout_ms, 0);
    assert_int_equal(config->kafka_options.max_message_bytes, (8 << 20) + 65536);
    assert_int_equal(config->mqtt.window, 500);
    assert_int_equal(config->mqtt_options.window, 500);
    assert_string_equal(config->mqtt_options.host, "m");
    assert_int_equal(config->mqtt_options.port, 1883);
    assert_false(config->mqtt_options.use_tls);
    assert_int_equal(config->mqtt_options.version, 5);
    assert_int_equal(config->mqtt_options.keepalive_ms, 10000);
    assert_int_equal(config->mqtt_options.message_expiry_s, 0);
    assert_string_equal(config->mqtt_options.client_id, "");
    assert_int_equal(config->mqtt_options.no_subscribers, MQTT_NO_SUBSCRIBERS_OK);
    assert_int_equal(config->mqtt_options.ack_timeout_ms, 30000);
    assert_int_equal(kafka->key, KEY_LEAD_ID);
    assert_int_equal(kafka->format, FORMAT_EVENT);
    assert_false(kafka->timestamp_is_event);
    assert_false(kafka->tombstone);
    assert_int_equal(mqtt->qos, 1);
    assert_false(mqtt->retain);
    assert_int_equal(mqtt->format, FORMAT_EVENT);
    config_free(config);
}

static void values_are_written_in_many_ways(void **state)
{
    struct config *config = parse_good(
        "listen: {address: '[::1]:0', max_body: 65536, threads: 7}\n"
        "control: {address: 'unix:run/c.sock'}\n"
        "journal: {retention: 0, dedupe_window: 5400s, max_size: 1GiB}\n"
        "accounts: [{name: a_1-B, signature_keys: " KEY ", replay_window: 0, sync: 5m,\n"
        "  verify_ssl: false, api_url: 'http://127.0.0.1:9/api/v1/'}]\n"
        "publishers:\n"
        "  kafka: {bootstrap.servers: k, overflow: drop_oldest, linger.ms: 5,\n"
        "    socket.keepalive.enable: true, ssl.ca.location: ca.pem, window: 17, retry_for: 0}\n"
        "  mqtt: {url: 'mqtts://[::1]', version: 3.1.1, keepalive: 1m, message_expiry: 2h,\n"
        "    no_subscribers: dead_letter, ca: /ca.pem}\n"
        "topic_map:\n"
        "- {object_type: custom_activity, kafka: {topic: t, key: object_id, tombstone: true,\n"
        "    format: msgpack, timestamp: event}}\n"
        "- {object_type: activity.*, action: created, mqtt: {topic: a, qos: 0, retain: true}}\n"
        "- {object_type: lead, action: ['*'], kafka: {topic: u, key: '{object_type}.{action}'}}\n"
        "- {category: close_account_setup, group: Statuses, kafka: {topic: v, key: none}}\n");

    (void)state;
    assert_string_equal(config->listen.host, "::1");
    assert_int_equal(config->listen.port, 0);
    assert_int_equal(config->listen.max_body, 65536);
    assert_int_equal(config->listen.threads, 7);
    assert_null(config->control.host);
    assert_string_equal(config->control.socket_path, "run/c.sock");
    assert_int_equal(config->journal.retention_ms, 0);
    assert_int_equal(config->journal.dedupe_window_ms, 5400000);
    assert_int_equal(config->accounts[0].replay_window_ms, 0);
    assert_int_equal(config->accounts[0].sync, SYNC_INTERVAL);
    assert_int_equal(config->accounts[0].sync_interval_ms, 300000);
    assert_false(config->accounts[0].verify_ssl);
    assert_string_equal(config->accounts[0].api_url, "http://127.0.0.1:9/api/v1");
    assert_int_equal(config->kafka.overflow, OVERFLOW_DROP_OLDEST);
    assert_int_equal(config->kafka.window, 17);
    assert_int_equal(config->kafka.retry_for_ms, 0);
    assert_int_equal(config->kafka_options.property_count, 4);
    assert_string_equal(config->kafka_options.properties[1].name, "linger.ms");
    assert_string_equal(config->kafka_options.properties[1].value, "5");
    assert_string_equal(config->kafka_options.properties[2].value, "true");
    assert_true(config->mqtt_options.use_tls);
    assert_string_equal(config->mqtt_options.host, "::1");
    assert_int_equal(config->mqtt_options.port, 8883);
    assert_int_equal(config->mqtt_options.version, 3);
    assert_int_equal(config->mqtt_options.message_expiry_s, 7200);
    assert_int_equal(config->mqtt_options.no_subscribers, MQTT_NO_SUBSCRIBERS_DEAD_LETTER);
    assert_string_equal(config->mqtt_options.ca, "/ca.pem");
    assert_string_equal(config->entries[0].object_type, "activity.custom_activity");
    assert_int_equal(config->entries[0].action_count, 0);
    assert_int_equal(config->entries[0].kafka.key, KEY_OBJECT_ID);
    assert_int_equal(config->entries[0].kafka.format, FORMAT_MSGPACK);
    assert_true(config->entries[0].kafka.timestamp_is_event);
    assert_true(config->entries[0].kafka.tombstone);
    assert_int_equal(config->entries[1].action_count, 1);
    assert_int_equal(config->entries[1].mqtt.qos, 0);
    assert_true(config->entries[1].mqtt.retain);
    assert_int_equal(config->entries[2].action_count, 0);
    assert_int_equal(config->entries[2].kafka.key, KEY_TEMPLATE);
    assert_non_null(config->entries[2].kafka.key_template);
    assert_int_equal(config->entries[3].kafka.key, KEY_NONE);
    assert_string_equal(config->entries[3].group, "Statuses");
    config_free(config);
}

static void files_that_are_not_a_configuration_are_refused(void **state)
{
    static const struct said cases[] = {
        {"", "c.yaml:1: the file is empty\n"},
        {"# nothing\n", "c.yaml:1: the file is empty\n"},
        {"- a\n", "c.yaml:1: expected a mapping, found a list\n"},
        {"hello", "c.yaml:1: expected a mapping, found a value\n"},
        {BASE "listen: [1\n", "c.yaml:5: YAML syntax: did not find expected ',' or ']' while "
                              "parsing a flow sequence\n"},
        {BASE "\tlisten: 1\n", "c.yaml:4: YAML syntax: found character that cannot start any token "
                               "while scanning for the next token\n"},
        {BASE "listen: {address: a\xff}\n",
         "c.yaml:4: this is not text in UTF-8: invalid leading UTF-8 octet\n"},
        {"\xff\xfe" BASE, "c.yaml:1: this is not text in UTF-8: invalid leading UTF-8 octet\n"},
        {BASE "---\na: b\n", "c.yaml:5: a second YAML document is not allowed\n"},
        {BASE "listen: {}\ncontrol: {}\nlisten: {}\n",
         "c.yaml:6: listen: is already set in line 4\n"},
        {BASE "publishers: {kafka: {bootstrap.servers: k, linger.ms: 1, client.id: x}}\n",
         "c.yaml:4: publishers: is already set in line 2\n"},
        {BASE ACCOUNTS TOPIC_MAP, "c.yaml:4: accounts: is already set in line 1\n"
                                  "c.yaml:5: topic_map: is already set in line 3\n"},
        {BASE "listen: {max_body: 1MiB, max_body: 2MiB}\n",
         "c.yaml:4: listen.max_body: is already set in line 4\n"},
        {BASE "listen: {address: \"a\\0b\"}\n", "c.yaml:4: a value holds a NUL byte\n"},
        {BASE "listen: !!binary aGk=\n", "c.yaml:4: YAML tags (!name) are not supported\n"},
        {BASE "listen: &a\n  tls: *a\n",
         "c.yaml:4: this is nested too deeply, or an alias holds itself\n"},
        {BASE "? [a]\n: b\n", "c.yaml:4: a key must be a plain word\n"},
    };

    (void)state;
    SAID(cases, false);
}

static void aliases_cannot_blow_up(void **state)
{
    struct buf yaml = {0};
    struct buf messages = {0};

    (void)state;
    buf_append_string(&yaml, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 9; i++) {
        buf_printf(&yaml, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++)
            buf_printf(&yaml, "%s*a%d", j ? ", " : "", i - 1);
        buf_append_string(&yaml, "]\n");
    }
    assert_null(config_parse("c.yaml", buf_text(&yaml), &messages));
    assert_non_null(strstr(messages.data, "this is too large: more than 100,000 values"));
    buf_release(&yaml);
    buf_release(&messages);
}

static void aliases_are_fine_within_reason(void **state)
{
    struct config *config = parse_good(
        ACCOUNTS PUBLISHERS "topic_map:\n"
                            "- {object_type: lead, kafka: &target {topic: all, key: object_id}}\n"
                            "- {object_type: contact, kafka: *target}\n");

    (void)state;
    assert_string_equal(config->entries[1].kafka.topic_source, "all");
    assert_int_equal(config->entries[1].kafka.key, KEY_OBJECT_ID);
    config_free(config);
}

static void files_above_the_limit_are_refused(void **state)
{
    struct buf yaml = {0};
    struct buf messages = {0};

    (void)state;
    buf_append_string(&yaml, BASE);
    while (yaml.size <= 1 << 20)
        buf_append_string(&yaml, "# a comment that makes the file too large to be meant\n");
    assert_null(config_parse("c.yaml", buf_text(&yaml), &messages));
    assert_string_equal(messages.data, "c.yaml:1: the file is above the limit of 1MiB\n");
    buf_release(&yaml);
    buf_release(&messages);
}

static void keys_are_checked(void **state)
{
    static const struct said cases[] = {
        {BASE "lisen: {}\n", "c.yaml:4: lisen: unknown key; did you mean listen?\n"},
        {BASE "qwertz: {}\n", "c.yaml:4: qwertz: unknown key\n"},
        {BASE "listen: {maxbody: 1MiB}\n",
         "c.yaml:4: listen.maxbody: unknown key; did you mean max_body?\n"},
        {BASE "listen: {tls: {cert: a, key: b}}\n",
         "c.yaml:4: listen.tls.cert: unknown key\nc.yaml:4: listen.tls.certificate: is missing\n"},
        {BASE "listen: 8080\n", "c.yaml:4: listen: expected a mapping, found a value\n"},
        {BASE "listen:\n", "c.yaml:4: listen: expected a mapping, found nothing\n"},
        {BASE "listen: {address: }\n",
         "c.yaml:4: listen.address: expected a value, found nothing\n"},
        {BASE "listen: {address: [a]}\n",
         "c.yaml:4: listen.address: expected a value, found a list\n"},
        {BASE "listen.address: a:1\n", "c.yaml:4: listen.address: unknown key\n"},
        {PUBLISHERS TOPIC_MAP, "c.yaml:1: accounts: is missing\n"},
        {ACCOUNTS TOPIC_MAP, "c.yaml:1: publishers: none is configured: kafka or mqtt is needed\n"
                             "c.yaml:2: topic_map[0].kafka: publishers.kafka is not configured\n"},
        {ACCOUNTS PUBLISHERS, "c.yaml:1: topic_map: is missing\n"},
    };

    (void)state;
    SAID(cases, false);
}

static void values_are_checked(void **state)
{
    static const struct said cases[] = {
        {BASE "listen: {max_body: 128MiB}\n",
         "c.yaml:4: listen.max_body: 128MiB is above the limit of 64MiB\n"},
        {BASE "listen: {max_body: 0}\n",
         "c.yaml:4: listen.max_body: 0 is below the least value of 1KiB\n"},
        {BASE "listen: {max_body: 8MB}\n",
         "c.yaml:4: listen.max_body: 8MB is not a size: write a number of bytes, or one with KiB, "
         "MiB or GiB\n"},
        {BASE "listen: {max_body: 99999999999GiB}\n",
         "c.yaml:4: listen.max_body: 99999999999GiB is not a size: write a number of bytes, or one "
         "with KiB, MiB or GiB\n"},
        {BASE "listen: {threads: 1.5}\n", "c.yaml:4: listen.threads: 1.5 is not a whole number\n"},
        {BASE "listen: {threads: 257}\n",
         "c.yaml:4: listen.threads: 257 is above the limit of 256\n"},
        {BASE "listen: {address: localhost}\n",
         "c.yaml:4: listen.address: localhost is not an address: write host:port, [ipv6]:port or "
         ":port\n"},
        {BASE "listen: {address: 'a:65536'}\n",
         "c.yaml:4: listen.address: a:65536 is not an address: write host:port, [ipv6]:port or "
         ":port\n"},
        {BASE "listen: {health_path: health}\n",
         "c.yaml:4: listen.health_path: health is not a path such as /health\n"},
        {BASE "listen: {health_path: /webhooks/main}\n",
         "c.yaml:4: listen.health_path: /webhooks/main is where webhooks arrive; take another "
         "path\n"},
        {BASE "journal: {retention: 72}\n",
         "c.yaml:4: journal.retention: 72 is not a duration: write a number with its unit ms, s, "
         "m, h or d, such as 30s\n"},
        {BASE "journal: {acknowledge_timeout: 15s}\n",
         "c.yaml:4: journal.acknowledge_timeout: 15s is above the limit of 14s\n"},
        {BASE "journal: {acknowledge: brocker}\n",
         "c.yaml:4: journal.acknowledge: brocker is not one of journal or broker; did you mean "
         "broker?\n"},
        {BASE "journal: {path: ''}\n", "c.yaml:4: journal.path: \"\" must not be empty\n"},
        {BASE "journal: {path: \"a\\nb\"}\n",
         "c.yaml:4: journal.path: \"a?b\" holds a control character, such as the end of a line\n"},
        {BASE "journal: {dedupe_window: 80h}\n",
         "c.yaml:1: accounts[0].replay_window: must be below journal.dedupe_window (80h), else a "
         "delivery could be replayed after it was forgotten\n"},
        {BASE "control: {address: '0.0.0.0:8081'}\n",
         "c.yaml:4: control.token: is missing: without it anybody who reaches the address could "
         "replay and unsubscribe; or set control.tls.client_ca, or use 127.0.0.1 or unix:PATH\n"},
        {BASE "control:\n  address: 'unix:c.sock'\n  tls: {certificate: c.pem, key: k.pem}\n",
         "c.yaml:6: control.tls: a socket has no use for it: its file's mode keeps others out\n"},
        {BASE "control: {tls: {certificate: c.pem, client_key: k.pem}}\n",
         "c.yaml:4: control.tls.key: is missing\n"
         "c.yaml:4: control.tls: client_certificate and client_key belong together: one is "
         "missing\n"},
        {BASE "control: {address: '127.0.0.1:8080'}\n",
         "c.yaml:4: control.address: is the address of the public listener; it needs its own "
         "port\n"},
        {BASE "control: {token: hunter2}\n",
         "c.yaml:4: control.token: the value is shorter than 16 bytes\n"},
        {BASE "control: {token: 'hunter2 hunter2 hunter2'}\n",
         "c.yaml:4: control.token: only visible ASCII characters can be sent in a header\n"},
        {BASE "dead_letters: {kafka: {topic: 'a/b'}}\n",
         "c.yaml:4: dead_letters.kafka.topic: a Kafka topic is made of letters, digits, '.', '_' "
         "and '-'\n"},
        {BASE "dead_letters: {kafka: {topic: 'a.{action}'}}\n",
         "c.yaml:4: dead_letters.kafka.topic: no variable is allowed here\n"},
    };

    (void)state;
    SAID(cases, false);
}

static void accounts_are_checked(void **state)
{
#define WITH(account) PUBLISHERS TOPIC_MAP "accounts: [" account "]\n"
    static const struct said cases[] = {
        {PUBLISHERS TOPIC_MAP "accounts: []\n",
         "c.yaml:3: accounts: expected a list of at least one account, found none\n"},
        {PUBLISHERS TOPIC_MAP "accounts: {name: a}\n",
         "c.yaml:3: accounts: expected a list of at least one account, found a mapping\n"},
        {WITH("main"), "c.yaml:3: accounts[0]: expected a mapping, found a value\n"},
        {WITH("{signature_keys: " KEY "}"), "c.yaml:3: accounts[0].name: is missing\n"},
        {WITH("{name: a b, signature_keys: " KEY "}"),
         "c.yaml:3: accounts[0].name: only letters, digits, _ and - are allowed, for it is part of "
         "a URL\n"},
        {WITH("{name: a, signature_keys: " KEY "}, {name: a, api_key: k}"),
         "c.yaml:3: accounts[1].name: is taken by the account in line 3\n"},
        {WITH("{name: a}"),
         "c.yaml:3: accounts[0].signature_keys: no delivery can be verified: set signature_keys, "
         "or api_key or oauth_token to make a subscription\n"},
        {WITH("{name: a, api_key: k, oauth_token: t}"),
         "c.yaml:3: accounts[0].oauth_token: only one of api_key and oauth_token can be used\n"},
        {WITH("{name: a, signature_keys: [abc]}"),
         "c.yaml:3: accounts[0].signature_keys[0]: a signature key has 64 hex digits, this value "
         "has 3 bytes\n"},
        {WITH("{name: a, signature_keys: [" KEY ", "
              "x9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4]}"),
         "c.yaml:3: accounts[0].signature_keys[1]: a signature key has 64 hex digits, this value "
         "has other characters\n"},
        {WITH("{name: a, api_key: k, api_url: 'http://api.close.com'}"),
         "c.yaml:3: accounts[0].api_url: http://api.close.com would send the API key in the clear; "
         "write https:// (http:// is for this machine only)\n"},
        {WITH("{name: a, api_key: k, webhook_url: hooks.example.com}"),
         "c.yaml:3: accounts[0].webhook_url: hooks.example.com is not a URL: write "
         "https://host[:port]/path, without a user name\n"},
        {WITH("{name: a, api_key: k, sync: never}"),
         "c.yaml:3: accounts[0].sync: never is not one of startup, manual or an interval such as "
         "5m\n"},
        {WITH("{name: a, api_key: k, sync: 1s}"),
         "c.yaml:3: accounts[0].sync: 1s is not an interval between 10s and 7d\n"},
        {WITH("{name: a, api_key: k, verify_ssl: yes}"),
         "c.yaml:3: accounts[0].verify_ssl: yes is neither true nor false\n"},
        {WITH("{name: a, signature_keys: " KEY "0}"),
         "c.yaml:3: accounts[0].signature_keys: a signature key has 64 hex digits, this value has "
         "65 bytes\n"},
        {WITH("{name: a, api_key: k, on_stop: delete}"),
         "c.yaml:3: accounts[0].on_stop: delete is not one of keep or unsubscribe\n"},
        {WITH("{name: a, api_key: k, replay_window: 10ms}"),
         "c.yaml:3: accounts[0].replay_window: 10ms is below the least value of 1s (0 is off)\n"},
    };
#undef WITH

    (void)state;
    SAID(cases, false);
}

static void weak_accounts_are_a_warning(void **state)
{
#define WITH(account) PUBLISHERS TOPIC_MAP "accounts: [" account "]\n"
    static const struct said cases[] = {
        {WITH("{name: a, api_key: k, webhook_url: 'http://hooks.example.com'}"),
         "c.yaml:3: warning: accounts[0].webhook_url: Close sends customers' data over http, which "
         "anybody on the way can read; use https\n"},
        {WITH("{name: a, api_key: k, verify_ssl: false, webhook_url: 'https://hooks.example.com'}"),
         "c.yaml:3: warning: accounts[0].verify_ssl: Close does not verify who answers at "
         "webhook_url: anybody on the way can read what it sends\n"},
        {WITH("{name: a, api_key: k, webhook_url: 'https://hooks.example.com'}"), ""},
        {WITH("{name: a, signature_keys: ''}"),
         "c.yaml:3: warning: accounts[0].signature_keys: holds no key yet: deliveries are answered "
         "401 until it does\n"},
    };
#undef WITH

    (void)state;
    SAID(cases, true);
}

/* As a file that `sync --keys-out` wrote. */
static void one_value_may_hold_several_keys(void **state)
{
    struct config *config = parse_good(
        PUBLISHERS TOPIC_MAP "accounts: [{name: a, on_stop: unsubscribe, signature_keys: '" KEY
                             "  " KEY2 " '}]");

    (void)state;
    assert_int_equal(config->accounts[0].signature_key_count, 2);
    assert_int_equal(config->accounts[0].signature_keys[0][0], 0xb9);
    assert_int_equal(config->accounts[0].signature_keys[1][0], 0x05);
    assert_int_equal(config->accounts[0].on_stop, ON_STOP_UNSUBSCRIBE);
    config_free(config);
}

static void publishers_are_checked(void **state)
{
#define KAFKA(keys)                                                                                \
    ACCOUNTS TOPIC_MAP "publishers:\n  kafka:\n    bootstrap.servers: k\n    " keys "\n"
#define WITH_MQTT(keys)                                                                            \
    ACCOUNTS "topic_map: [{object_type: lead, mqtt: {topic: leads}}]\n"                            \
             "publishers: {mqtt: {" keys "}}\n"
    static const struct said cases[] = {
        {ACCOUNTS TOPIC_MAP "publishers: {kafka: {linger.ms: 1}}\n",
         "c.yaml:3: publishers.kafka.bootstrap.servers: is missing\n"},
        {ACCOUNTS TOPIC_MAP "publishers: {kafka: }\n",
         "c.yaml:3: publishers.kafka: expected a mapping, found nothing\n"},
        {KAFKA("overflow: drop_newest"), "c.yaml:6: publishers.kafka.overflow: drop_newest is not "
                                         "one of refuse or drop_oldest; did "
                                         "you mean drop_oldest?\n"},
        {KAFKA("windows: 5"),
         "c.yaml:6: publishers.kafka.windows: librdkafka 2.0.2 has no property of this name; did "
         "you mean window?\n"},
        {KAFKA("acks: 1"),
         "c.yaml:6: publishers.kafka.acks: remove this property: it is always all, because a "
         "record counts only when every in-sync replica has it\n"},
        {KAFKA("linger.ms: {a: b}"),
         "c.yaml:6: publishers.kafka.linger.ms: expected a value, found a mapping\n"},
        {KAFKA("create_topics: perhaps"),
         "c.yaml:6: publishers.kafka.create_topics: perhaps is neither true, false nor a "
         "mapping\n"},
        {KAFKA("create_topics: {partitions: 0, replicas: 3}"),
         "c.yaml:6: publishers.kafka.create_topics.partitions: 0 is below the least value of 1\n"
         "c.yaml:6: publishers.kafka.create_topics.replicas: unknown key\n"},
        {KAFKA("create_topics: {config: [a, b]}"),
         "c.yaml:6: publishers.kafka.create_topics.config: expected a mapping, found a list\n"},
        {WITH_MQTT("version: 5"), "c.yaml:3: publishers.mqtt.url: is missing\n"},
        {WITH_MQTT("url: 'http://m'"),
         "c.yaml:3: publishers.mqtt.url: http://m is not a URL such as mqtt://host:1883 or "
         "mqtts://host\n"},
        {WITH_MQTT("url: 'mqtt://user:hunter2@m'"),
         "c.yaml:3: publishers.mqtt.url: the value holds an @: write username and password as keys "
         "of their own\n"},
        {WITH_MQTT("url: 'mqtt://m/topic'"),
         "c.yaml:3: publishers.mqtt.url: mqtt://m/topic is not a URL such as mqtt://host:1883 or "
         "mqtts://host\n"},
        {WITH_MQTT("url: 'mqtt://m', version: 4"),
         "c.yaml:3: publishers.mqtt.version: 4 is not one of 5 or 3.1.1\n"},
        {WITH_MQTT("url: 'mqtt://m', window: 1001"),
         "c.yaml:3: publishers.mqtt.window: 1001 is above the limit of 1000\n"},
        {WITH_MQTT("url: 'mqtt://m', keepalive: 1s"),
         "c.yaml:3: publishers.mqtt.keepalive: 1s is below the least value of 5s\n"},
        {WITH_MQTT("url: 'mqtt://m', message_expiry: 1500ms"),
         "c.yaml:3: publishers.mqtt.message_expiry: 1500ms is not a number of seconds, nor a "
         "duration such as 10m\n"},
        {WITH_MQTT("url: 'mqtt://m', ca: a, certificate: b"),
         "c.yaml:3: publishers.mqtt.key: is missing; certificate needs it\n"
         "c.yaml:3: publishers.mqtt.ca: needs TLS: write mqtts:// in url\n"
         "c.yaml:3: publishers.mqtt.certificate: needs TLS: write mqtts:// in url\n"},
        {WITH_MQTT("url: 'mqtt://m', password: p"),
         "c.yaml:3: publishers.mqtt.username: is missing; password needs it\n"},
        {WITH_MQTT("url: 'mqtt://m', status_topic: 'a/#'"),
         "c.yaml:3: publishers.mqtt.status_topic: an MQTT topic to publish on is UTF-8 without "
         "'+', '#', control characters and noncharacters\n"},
        {WITH_MQTT("url: 'mqtt://m', no_subscribers: never"),
         "c.yaml:3: publishers.mqtt.no_subscribers: never is not one of ok, retry or "
         "dead_letter\n"},
    };
#undef KAFKA
#undef WITH_MQTT

    (void)state;
    SAID(cases, false);
}

static void entries_are_checked(void **state)
{
#define ENTRY(entry) ACCOUNTS PUBLISHERS "topic_map: [" entry "]\n"
    static const struct said cases[] = {
        {ACCOUNTS PUBLISHERS "topic_map: []\n",
         "c.yaml:3: topic_map: expected a list of at least one entry, found none\n"},
        {ENTRY("{object_type: lead}"),
         "c.yaml:2: warning: publishers.kafka: no entry of topic_map publishes to it\n"
         "c.yaml:3: topic_map[0]: goes nowhere: kafka or mqtt is missing\n"},
        {ENTRY("{kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].object_type: is missing (or category): the entry selects "
         "nothing\n"},
        {ENTRY("{object_type: lead, category: lead, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].category: only one of object_type and category can be used\n"},
        {ENTRY("{object_type: 'lead*', kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].object_type: lead* is not an object type such as lead, a prefix "
         "such as activity.*, nor *\n"},
        {ENTRY("{object_type: lead, action: [], kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].action: is empty; write \"*\" for every action, or leave it "
         "out\n"},
        {ENTRY("{object_type: lead, action: [created, created], kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].action[1]: created is in the list already\n"},
        {ENTRY("{object_type: lead, action: 'a b', kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].action: an action is a word such as created, or \"*\"\n"},
        {ENTRY("{object_type: lead, labels: [Lead Created], kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].labels: goes with category only\n"},
        {ENTRY("{category: opportunity, action: created, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].action: goes with object_type; a category is narrowed by "
         "labels\n"},
        {ENTRY("{category: oportunity, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].category: not in the catalog; did you mean opportunity?\n"},
        {ENTRY("{category: lead, labels: [Lead Create], kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].labels: \"Lead Create\" is not a label of the category lead; did "
         "you mean \"Lead Created\"?\n"},
        {ENTRY("{category: close_account_setup, group: Status, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].group: not a group of the category close_account_setup; did you "
         "mean Statuses?\n"},
        {ENTRY("{object_type: lead, account: other, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].account: no account of this name is configured\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t}, mqtt: {topic: t}}"),
         "c.yaml:3: topic_map[0].mqtt: publishers.mqtt is not configured\n"},
        {ENTRY("{object_type: lead, kafka: {key: lead_id}}"),
         "c.yaml:3: topic_map[0].kafka.topic: is missing\n"},
        {ENTRY("{object_type: lead, kafka: {topic: 'a b'}}"),
         "c.yaml:3: topic_map[0].kafka.topic: a Kafka topic is made of letters, digits, '.', '_' "
         "and '-'\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t, key: led_id}}"),
         "c.yaml:3: topic_map[0].kafka.key: led_id is not one of lead_id, object_id, event_id, "
         "organization_id, none, nor a template such as {object_type}.{action}; did you mean "
         "lead_id?\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t, format: cloudevent}}"),
         "c.yaml:3: topic_map[0].kafka.format: cloudevent is not one of event, raw, cloudevents or "
         "msgpack; did you mean cloudevents?\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t, timestamp: now}}"),
         "c.yaml:3: topic_map[0].kafka.timestamp: now is neither received nor event\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t, tombstone: true}}"),
         "c.yaml:3: topic_map[0].kafka.tombstone: needs key: object_id, else it would erase other "
         "objects\n"},
        {ENTRY("{object_type: lead, kafka: {topic: t, qos: 1}}"),
         "c.yaml:3: topic_map[0].kafka.qos: unknown key\n"},
        {ENTRY("{object_type: lead, action: [created, updated], kafka: {topic: t}},\n"
               "{object_type: lead, action: [updated, created], kafka: {topic: t, key: none}}"),
         "c.yaml:4: topic_map[1].kafka.topic: would publish twice: the entry in line 3 takes the "
         "same events to the same topic\n"},
        {ENTRY("{object_type: lead, extra_filter: equals, kafka: {topic: t}}"),
         "c.yaml:3: topic_map[0].extra_filter: expected a mapping, found a value\n"},
    };
#undef ENTRY

    (void)state;
    SAID(cases, false);
}

static void bad_filters_name_what_is_wrong(void **state)
{
    struct buf messages = {0};

    (void)state;
    assert_null(parse(ACCOUNTS PUBLISHERS
                      "topic_map: [{object_type: lead, extra_filter: {type: equal, value: 1}, "
                      "kafka: {topic: t}}]\n",
                      &messages));
    assert_non_null(strstr(messages.data, "c.yaml:3: topic_map[0].extra_filter: "));
    assert_non_null(strstr(messages.data, "equal"));
    buf_release(&messages);
}

static void filters_keep_the_types_that_were_written(void **state)
{
    struct config *config;

    (void)state;
    setenv("CONFIG_TEST_NUMBER", "7", 1);
    config = parse_good(
        ACCOUNTS PUBLISHERS
        "topic_map: [{object_type: lead, kafka: {topic: t}, extra_filter: {type: and, filters: [\n"
        "{type: equals, value: 1.5e3}, {type: equals, value: '1'}, {type: equals, value: true},\n"
        "{type: equals, value: 0x10}, {type: equals, value: null}, {type: equals, value: "
        "\"a\\nb\"},"
        "{type: equals, value: \"${CONFIG_TEST_NUMBER}\"}]}}]\n");
    assert_int_equal(config->entry_count, 1);
    assert_non_null(config->entries[0].filter);
    {
        struct text json = filter_json(config->entries[0].filter);
        static const char *const parts[] = {"1.5e3", "\"1\"",         "true", "\"0x10\"",
                                            "null",  "\"a\\u000ab\"", "\"7\""};
        char *copy = text_dup(json);

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            if (!strstr(copy, parts[i]))
                print_error("%s is not in %s\n", parts[i], copy);
            assert_non_null(strstr(copy, parts[i]));
        }
        free(copy);
    }
    config_free(config);
}

static void broker_mode_has_its_own_rules(void **state)
{
#define BROKER "journal: {acknowledge: broker, acknowledge_timeout: 4s}\n"
#define DEAD "dead_letters: {kafka: {topic: dead}}\n"
    static const struct said cases[] = {
        {BASE BROKER,
         "c.yaml:1: dead_letters.kafka: is needed with acknowledge: broker, which has no other "
         "place to keep what a broker refuses\n"},
        {ACCOUNTS MQTT "topic_map: [{object_type: lead, mqtt: {topic: t}}]\n" BROKER DEAD,
         "c.yaml:5: dead_letters.kafka: publishers.kafka is not configured\n"},
        {"accounts: [{name: a, api_key: k}]\n" PUBLISHERS TOPIC_MAP BROKER DEAD,
         "c.yaml:1: accounts[0].sync: must be manual with acknowledge: broker, for replicas would "
         "fight over the subscription\n"
         "c.yaml:1: accounts[0].signature_keys: is needed with acknowledge: broker, which keeps no "
         "keys of its own\n"},
        {ACCOUNTS "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: mqtt://m}}\n"
                  "topic_map: [{object_type: lead, mqtt: {topic: t, qos: 0}}]\n" BROKER DEAD,
         "c.yaml:3: topic_map[0].mqtt.qos: 0 has no acknowledgement to wait for; acknowledge: "
         "broker needs 1 or 2\n"},
    };
    struct config *config;

    (void)state;
    SAID(cases, false);
    config = parse_good(BASE BROKER DEAD);
    assert_int_equal(config->journal.acknowledge, ACKNOWLEDGE_BROKER);
    assert_int_equal(config->kafka_options.message_timeout_ms, 3000);
    assert_int_equal(config->mqtt_options.ack_timeout_ms, 3000);
    config_free(config);
#undef BROKER
#undef DEAD
}

static void what_close_does_not_send_is_a_warning(void **state)
{
#define ENTRY(entry) ACCOUNTS PUBLISHERS "topic_map: [" entry "]\n"
    static const struct said cases[] = {
        {ENTRY("{object_type: leed, kafka: {topic: t}}"),
         "c.yaml:3: warning: topic_map[0].object_type: not in Close's catalog; did you mean "
         "lead?\n"},
        {ENTRY("{object_type: actvty.*, kafka: {topic: t}}"),
         "c.yaml:3: warning: topic_map[0].object_type: not in Close's catalog: to subscribe to it, "
         "write an exact type and its actions\n"},
        {ENTRY("{object_type: actvty, action: exploded, kafka: {topic: t}}"),
         "c.yaml:3: warning: topic_map[0].object_type: not in Close's catalog\n"},
        {ENTRY("{object_type: lead, action: [create, updated], kafka: {topic: t}}"),
         "c.yaml:3: warning: topic_map[0].action: lead has no action create in Close's catalog; "
         "did you mean created?\n"},
        {ENTRY("{object_type: 'activity.*', action: exploded, kafka: {topic: t}}"),
         "c.yaml:3: warning: topic_map[0].action: activity.* has no action exploded in Close's "
         "catalog\n"},
        {ACCOUNTS "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: mqtt://m}}\n" TOPIC_MAP,
         "c.yaml:2: warning: publishers.mqtt: no entry of topic_map publishes to it\n"},
    };
#undef ENTRY

    (void)state;
    SAID(cases, true);
}

static void every_mistake_is_said_in_the_order_of_the_file(void **state)
{
    static const struct said cases[] = {
        {"listen:\n  adress: x\n  max_body: 1\njournal:\n  retention: soon\n" BASE
         "control: {tocken: a}\n",
         "c.yaml:2: listen.adress: unknown key; did you mean address?\n"
         "c.yaml:3: listen.max_body: 1 is below the least value of 1KiB\n"
         "c.yaml:5: journal.retention: soon is not a duration: write a number with its unit ms, s, "
         "m, h or d, such as 30s\n"
         "c.yaml:9: control.tocken: unknown key; did you mean token?\n"},
    };

    (void)state;
    SAID(cases, false);
}

/* Writes a file into a fresh folder; returns its path, static. */
static const char *write_file(const char *content, size_t size)
{
    static char path[128];
    char folder[] = "/tmp/test_config.XXXXXX";
    FILE *file;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/secret", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void remove_file(const char *path)
{
    char folder[128];

    unlink(path);
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
    rmdir(folder);
}

static void values_come_from_the_environment_and_files(void **state)
{
    const char *path = write_file("s3cr3t-s3cr3t-s3cr3t\n\n", 22);
    struct buf yaml = {0};
    struct buf messages = {0};
    struct config *config;
    char folder[128];

    (void)state;
    setenv("CONFIG_TEST_HOST", "kafka:9092", 1);
    snprintf(folder, sizeof(folder), "%.*s/c.yaml", (int)(strrchr(path, '/') - path), path);
    buf_append_string(&yaml, ACCOUNTS TOPIC_MAP
                      "publishers: {kafka: {bootstrap.servers: \"a,${CONFIG_TEST_HOST},b\",\n"
                      "  sasl.password: '${file:./secret}', client.id: '$${HOME}$x$',\n"
                      "  sasl.username: 'u-${credential:secret}'}}\n");
    *strrchr(folder, '/') = '\0';
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    folder[strlen(folder)] = '/';
    config = config_parse(folder, buf_text(&yaml), &messages);
    unsetenv("CREDENTIALS_DIRECTORY");
    if (messages.size)
        print_error("%s", messages.data);
    assert_non_null(config);
    assert_string_equal(config->kafka_options.properties[0].value, "a,kafka:9092,b");
    assert_string_equal(config->kafka_options.properties[1].value, "s3cr3t-s3cr3t-s3cr3t\n");
    assert_string_equal(config->kafka_options.properties[2].value, "${HOME}$x$");
    assert_string_equal(config->kafka_options.properties[3].value, "u-s3cr3t-s3cr3t-s3cr3t\n");
    config_free(config);
    buf_release(&yaml);
    buf_release(&messages);
    remove_file(path);
}

static void what_cannot_be_replaced_is_said(void **state)
{
    static const struct said cases[] = {
        {BASE "control: {token: '${CONFIG_TEST_UNSET}'}\n",
         "c.yaml:4: control.token: the environment variable CONFIG_TEST_UNSET is not set\n"},
        {BASE "control: {token: '${file:/nonexistent/token}'}\n",
         "c.yaml:4: control.token: cannot read the file /nonexistent/token: No such file or "
         "directory\n"},
        {BASE "control: {token: '${file:/}'}\n",
         "c.yaml:4: control.token: cannot read the file /: Is a directory\n"},
        {BASE "control: {token: '${file:/dev/zero}'}\n",
         "c.yaml:4: control.token: cannot read the file /dev/zero: Invalid argument\n"},
        {BASE "control: {token: '${A:-b}'}\n",
         "c.yaml:4: control.token: what stands between ${ and } is not understood: write ${NAME}, "
         "${file:PATH}, ${credential:NAME}, or $${ for a literal ${\n"},
        {BASE "control: {token: '${credential:token}'}\n",
         "c.yaml:4: control.token: the credential token cannot be read: CREDENTIALS_DIRECTORY is "
         "not set, as systemd does for LoadCredential=\n"},
        {BASE "control: {token: '${credential:../token}'}\n",
         "c.yaml:4: control.token: the name of the credential ../token holds a /\n"},
        {BASE "control: {token: 'abc${A'}\n",
         "c.yaml:4: control.token: a ${ has no closing brace; write $${ for a literal ${\n"},
        {"accounts: [{name: a, signature_keys: ['${CONFIG_TEST_UNSET}']}]\n" PUBLISHERS TOPIC_MAP,
         "c.yaml:1: accounts[0].signature_keys[0]: the environment variable CONFIG_TEST_UNSET is "
         "not set\n"},
    };

    (void)state;
    unsetenv("CONFIG_TEST_UNSET");
    unsetenv("CREDENTIALS_DIRECTORY");
    SAID(cases, false);
}

static void a_value_from_outside_stays_one_value(void **state)
{
    struct buf messages = {0};

    (void)state;
    setenv("CONFIG_TEST_EVIL", "a\nlisten: {threads: 99}", 1);
    assert_null(parse(BASE "journal: {path: '${CONFIG_TEST_EVIL}'}\n", &messages));
    assert_string_equal(messages.data, "c.yaml:4: journal.path: the value holds a control "
                                       "character, such as the end of a line\n");
    buf_release(&messages);
}

/* Puts one secret wherever a value can stand, all of them wrong, and looks for it in what is said.
 */
static void secrets_are_never_shown(void **state)
{
    static const char yaml[] =
        "listen: {address: '${CANARY}', max_body: '${CANARY}', threads: '${CANARY}',\n"
        "  health_path: '${CANARY}', tls: {certificate: \"${CANARY}\\n\", key: \"${CANARY}\\n\"}}\n"
        "control: {address: '${CANARY}', token: canary}\n"
        "journal: {path: \"${CANARY}\\n\", acknowledge: '${CANARY}', retention: '${CANARY}'}\n"
        "accounts:\n"
        "- {name: '${CANARY} ', api_key: \"canary\\n\", api_url: '${CANARY}', sync: '${CANARY}',\n"
        "   signature_keys: [canary, '${CANARY}', '${CANARY}'], verify_ssl: '${CANARY}'}\n"
        "publishers:\n"
        "  kafka: {bootstrap.servers: k, linger.ms: '${CANARY}', partitioner: '${CANARY}',\n"
        "    compression.codec: '${CANARY}', sasl.mechanisms: '${CANARY}'}\n"
        "  mqtt: {url: 'mqtt://user:canary@host', version: '${CANARY}', password: \"canary\\n\"}\n"
        "topic_map:\n"
        "- {object_type: '${CANARY} ', action: ['${CANARY} ', '${CANARY} '],\n"
        "   kafka: {topic: '${CANARY} ', key: '${CANARY}', format: '${CANARY}'}}\n"
        "- {category: '${CANARY}', labels: '${CANARY}', kafka: {topic: '{${CANARY}}'}}\n"
        "- {object_type: '${CANARY}', action: '${CANARY}', kafka: {topic: a}}\n"
        "- {object_type: lead, action: '${CANARY}', kafka: {topic: a}}\n"
        "- {category: lead, labels: '${CANARY}', kafka: {topic: a}}\n"
        "- {object_type: lead, extra_filter: {type: '${CANARY}'}, kafka: {topic: a}}\n"
        "- {object_type: lead, kafka: {topic: a, key: '{${CANARY}}'}}\n";
    struct buf messages = {0};

    (void)state;
    setenv("CANARY", "canary", 1);
    assert_null(parse(yaml, &messages));
    if (strstr(messages.data, "canary"))
        print_error("%s", messages.data);
    assert_null(strstr(messages.data, "canary"));
    buf_release(&messages);
}

static void a_missing_file_is_said(void **state)
{
    struct buf messages = {0};

    (void)state;
    assert_null(config_load("/nonexistent/c.yaml", &messages));
    assert_string_equal(messages.data,
                        "/nonexistent/c.yaml: cannot be read: No such file or directory\n");
    buf_release(&messages);
}

static void long_reports_end(void **state)
{
    struct buf yaml = {0};
    struct buf messages = {0};

    (void)state;
    buf_append_string(&yaml, BASE);
    for (int i = 0; i < 1500; i++)
        buf_printf(&yaml, "unknown%d: x\n", i);
    assert_null(config_parse("c.yaml", buf_text(&yaml), &messages));
    assert_true(has_line(&messages, "c.yaml:4: unknown0: unknown key"));
    assert_non_null(strstr(messages.data, "more messages are left out"));
    buf_release(&yaml);
    buf_release(&messages);
}

/* The table is the documentation: every row says what it is for. */
static void every_directive_is_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];

        assert_non_null(row->help);
        assert_true(strlen(row->help) > 3);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(row->path, config_directives[j].path);
        if (row->type == DIRECTIVE_NODE)
            assert_non_null(row->load);
        if (row->type == DIRECTIVE_CUSTOM)
            assert_non_null(row->parse);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_example_loads),
        cmocka_unit_test(the_packaged_example_loads),
        cmocka_unit_test(defaults_are_those_of_the_contract),
        cmocka_unit_test(values_are_written_in_many_ways),
        cmocka_unit_test(files_that_are_not_a_configuration_are_refused),
        cmocka_unit_test(aliases_cannot_blow_up),
        cmocka_unit_test(aliases_are_fine_within_reason),
        cmocka_unit_test(files_above_the_limit_are_refused),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(accounts_are_checked),
        cmocka_unit_test(publishers_are_checked),
        cmocka_unit_test(entries_are_checked),
        cmocka_unit_test(bad_filters_name_what_is_wrong),
        cmocka_unit_test(filters_keep_the_types_that_were_written),
        cmocka_unit_test(broker_mode_has_its_own_rules),
        cmocka_unit_test(what_close_does_not_send_is_a_warning),
        cmocka_unit_test(weak_accounts_are_a_warning),
        cmocka_unit_test(one_value_may_hold_several_keys),
        cmocka_unit_test(every_mistake_is_said_in_the_order_of_the_file),
        cmocka_unit_test(values_come_from_the_environment_and_files),
        cmocka_unit_test(what_cannot_be_replaced_is_said),
        cmocka_unit_test(a_value_from_outside_stays_one_value),
        cmocka_unit_test(secrets_are_never_shown),
        cmocka_unit_test(a_missing_file_is_said),
        cmocka_unit_test(long_reports_end),
        cmocka_unit_test(every_directive_is_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
