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
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "tests/unit/bridge/config/config_fixture.h"

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
    struct config *config = fixture_parse_good(
        ACCOUNTS "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: mqtt://m}}\n"
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
    struct config *config = fixture_parse_good(
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
        {BASE "\tlisten: 1\n", "c.yaml:4: YAML syntax: a tab indents this line: YAML takes "
                               "spaces\n"},
        {BASE "listen: @a\n", "c.yaml:4: YAML syntax: found character that cannot start any token "
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

/* Editors on Windows write one before UTF-8. */
static void a_byte_order_mark_is_passed_over(void **state)
{
    static const struct said loads[] = {{"\xef\xbb\xbf" BASE, ""}};
    static const struct said mistakes[] = {
        {"\xef\xbb\xbf", "c.yaml:1: the file is empty\n"},
        {"\xef\xbb\xbf" BASE "liste: {}\n", "c.yaml:4: liste: unknown key; did you mean listen?\n"},
    };

    (void)state;
    SAID(loads, true);
    SAID(mistakes, false);
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
    struct config *config = fixture_parse_good(
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
    assert_null(fixture_parse(BASE "journal: {path: '${CONFIG_TEST_EVIL}'}\n", &messages));
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
    assert_null(fixture_parse(yaml, &messages));
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
    assert_true(fixture_has_line(&messages, "c.yaml:4: unknown0: unknown key"));
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
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(aliases_cannot_blow_up),
        cmocka_unit_test(aliases_are_fine_within_reason),
        cmocka_unit_test(files_above_the_limit_are_refused),
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
