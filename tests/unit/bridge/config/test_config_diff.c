#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"
#include "bridge/config/config.h"
#include "bridge/config/config_diff.h"
#include "bridge/config/config_directives.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define OTHER "ffff0244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"

static const char base[] = "listen:\n"
                           "  address: 127.0.0.1:8080\n"
                           "  tls: {certificate: c.pem, key: k.pem}\n"
                           "  max_body: 8MiB\n"
                           "  threads: 2\n"
                           "  max_connections_per_address: 100\n"
                           "  health_path: /health\n"
                           "control:\n"
                           "  address: 127.0.0.1:8081\n"
                           "  token: 0123456789abcdef\n"
                           "  tls: {certificate: cc.pem, key: ck.pem, client_ca: ca.pem,\n"
                           "        client_certificate: cl.pem, client_key: clk.pem}\n"
                           "journal:\n"
                           "  path: ./state\n"
                           "  acknowledge: journal\n"
                           "  acknowledge_timeout: 8s\n"
                           "  retention: 72h\n"
                           "  max_size: 4GiB\n"
                           "  dedupe_window: 96h\n"
                           "  dedupe_max: 2000000\n"
                           "dead_letters: {kafka: {topic: dead}}\n"
                           "accounts:\n"
                           "  - name: main\n"
                           "    api_key: api_main\n"
                           "    api_url: https://api.close.com/api/v1\n"
                           "    webhook_url: https://hooks.example.com/webhooks/main\n"
                           "    signature_keys: [" KEY "]\n"
                           "    replay_window: 80h\n"
                           "    sync: startup\n"
                           "    verify_ssl: true\n"
                           "    on_stop: keep\n"
                           "    catch_up: {interval: 15m, overlap: 5m, settle: 10m,\n"
                           "               max_age: 30d}\n"
                           "  - {name: second, oauth_token: token2, signature_keys: [" KEY "]}\n"
                           "publishers:\n"
                           "  kafka:\n"
                           "    bootstrap.servers: localhost:9092\n"
                           "    overflow: refuse\n"
                           "    window: 4000\n"
                           "    retry_for: 24h\n"
                           "    create_topics: {partitions: 3, replication_factor: 2,\n"
                           "                    config: {retention.ms: 1000}}\n"
                           "  mqtt:\n"
                           "    url: mqtts://localhost\n"
                           "    version: 5\n"
                           "    username: bridge\n"
                           "    password: secret\n"
                           "    ca: mca.pem\n"
                           "    certificate: mc.pem\n"
                           "    key: mk.pem\n"
                           "    keepalive: 10s\n"
                           "    message_expiry: 0\n"
                           "    client_id: one\n"
                           "    no_subscribers: ok\n"
                           "    status_topic: status/one\n"
                           "    overflow: refuse # mqtt\n"
                           "    window: 500\n"
                           "    retry_for: 23h\n"
                           "topic_map:\n"
                           "  - object_type: lead\n"
                           "    action: [created, updated]\n"
                           "    account: main\n"
                           "    extra_filter: {type: field_accessor, field: user_id,\n"
                           "                   filter: {type: equals, value: user_1}}\n"
                           "    fields: {drop: [data.emails]}\n"
                           "    kafka: {topic: leads, key: lead_id, format: event,\n"
                           "            timestamp: received, tombstone: false}\n"
                           "    mqtt: {topic: leads/x, qos: 1, retain: false, format: event}\n"
                           "  - category: opportunity\n"
                           "    labels: [Opportunity in New Status]\n"
                           "    kafka: {topic: deals, key: object_id}\n"
                           "  - {object_type: \"*\", fallback: true, kafka: {topic: rest}}\n"
                           "  - category: close_account_setup\n"
                           "    group: Statuses\n"
                           "    fields: {keep: [data.name]}\n"
                           "    kafka: {topic: setup}\n";

/* What is replaced in the base, by what, and the names of what changes by that. `row` is the path
 * in the table that the case is about. */
static const struct change {
    const char *row;
    const char *from;
    const char *to;
    const char *names;
} changes[] = {
    {"listen.address", "127.0.0.1:8080", "127.0.0.1:8090", "listen.address"},
    {"listen.tls.certificate", "{certificate: c.pem", "{certificate: d.pem",
     "listen.tls.certificate"},
    {"listen.tls.key", "key: k.pem", "key: l.pem", "listen.tls.key"},
    {"listen.max_body", "8MiB", "9MiB", "listen.max_body"},
    {"listen.threads", "threads: 2", "threads: 3", "listen.threads"},
    {"listen.max_connections_per_address", "per_address: 100", "per_address: 101",
     "listen.max_connections_per_address"},
    {"listen.health_path", "/health\n", "/up\n", "listen.health_path"},
    {"control.address", "127.0.0.1:8081", "127.0.0.1:8091", "control.address"},
    {"control.token", "0123456789abcdef", "fedcba9876543210", "control.token"},
    {"control.tls.certificate", "cc.pem", "cd.pem", "control.tls.certificate"},
    {"control.tls.key", "ck.pem", "cl.pem", "control.tls.key"},
    {"control.tls.client_ca", "client_ca: ca.pem", "client_ca: cb.pem", "control.tls.client_ca"},
    {"control.tls.client_certificate", "client_certificate: cl.pem", "client_certificate: x.pem",
     "control.tls.client_certificate"},
    {"control.tls.client_key", "clk.pem", "x.pem", "control.tls.client_key"},
    {"journal.path", "./state", "./elsewhere", "journal.path"},
    {"journal.acknowledge_timeout", "acknowledge_timeout: 8s", "acknowledge_timeout: 9s",
     "journal.acknowledge_timeout"},
    {"journal.retention", "retention: 72h", "retention: 71h", "journal.retention"},
    {"journal.max_size", "4GiB", "5GiB", "journal.max_size"},
    {"journal.dedupe_window", "96h", "97h", "journal.dedupe_window"},
    {"journal.dedupe_max", "2000000", "2000001", "journal.dedupe_max"},
    {"dead_letters.kafka.topic", "topic: dead", "topic: late", "dead_letters.kafka.topic"},
    {"accounts", "name: second", "name: third", "accounts[third] accounts[second]"},
    {"accounts[].name", "name: second", "name: third", "accounts[third] accounts[second]"},
    {"accounts[].api_key", "api_main", "api_other", "accounts[main].api_key"},
    {"accounts[].oauth_token", "token2", "token3", "accounts[second].oauth_token"},
    {"accounts[].api_url", "api/v1", "api/v2", "accounts[main].api_url"},
    {"accounts[].webhook_url", "https://hooks.", "https://hook.", "accounts[main].webhook_url"},
    {"accounts[].signature_keys", KEY "]\n    replay", OTHER "]\n    replay",
     "accounts[main].signature_keys"},
    {"accounts[].replay_window", "80h", "79h", "accounts[main].replay_window"},
    {"accounts[].sync", "sync: startup", "sync: 5m", "accounts[main].sync"},
    {"accounts[].verify_ssl", "verify_ssl: true", "verify_ssl: false", "accounts[main].verify_ssl"},
    {"accounts[].on_stop", "on_stop: keep", "on_stop: unsubscribe", "accounts[main].on_stop"},
    {"accounts[].catch_up.interval", "15m", "16m", "accounts[main].catch_up.interval"},
    {"accounts[].catch_up.overlap", "overlap: 5m", "overlap: 6m",
     "accounts[main].catch_up.overlap"},
    {"accounts[].catch_up.settle", "settle: 10m", "settle: 11m", "accounts[main].catch_up.settle"},
    {"accounts[].catch_up.max_age", "30d", "29d", "accounts[main].catch_up.max_age"},
    {"publishers.kafka", "localhost:9092", "localhost:9093", "publishers.kafka"},
    {"publishers.kafka.overflow", "overflow: refuse\n", "overflow: drop_oldest\n",
     "publishers.kafka.overflow"},
    {"publishers.kafka.window", "window: 4000", "window: 3999", "publishers.kafka.window"},
    {"publishers.kafka.retry_for", "24h", "25h", "publishers.kafka.retry_for"},
    {"publishers.kafka.create_topics.partitions", "partitions: 3", "partitions: 4",
     "publishers.kafka.create_topics.partitions"},
    {"publishers.kafka.create_topics.replication_factor", "factor: 2", "factor: 1",
     "publishers.kafka.create_topics.replication_factor"},
    {"publishers.kafka.create_topics.config", "retention.ms: 1000", "retention.ms: 1001",
     "publishers.kafka.create_topics.config"},
    {"publishers.mqtt.url", "mqtts://localhost", "mqtts://localhost:8884", "publishers.mqtt.url"},
    {"publishers.mqtt.version", "version: 5", "version: 3.1.1", "publishers.mqtt.version"},
    {"publishers.mqtt.username", "username: bridge", "username: b", "publishers.mqtt.username"},
    {"publishers.mqtt.password", "password: secret", "password: s", "publishers.mqtt.password"},
    {"publishers.mqtt.ca", "mca.pem", "mcb.pem", "publishers.mqtt.ca"},
    {"publishers.mqtt.certificate", "mc.pem", "md.pem", "publishers.mqtt.certificate"},
    {"publishers.mqtt.key", "mk.pem", "ml.pem", "publishers.mqtt.key"},
    {"publishers.mqtt.keepalive", "keepalive: 10s", "keepalive: 11s", "publishers.mqtt.keepalive"},
    {"publishers.mqtt.message_expiry", "expiry: 0", "expiry: 1", "publishers.mqtt.message_expiry"},
    {"publishers.mqtt.client_id", "client_id: one", "client_id: two", "publishers.mqtt.client_id"},
    {"publishers.mqtt.no_subscribers", "subscribers: ok", "subscribers: retry",
     "publishers.mqtt.no_subscribers"},
    {"publishers.mqtt.status_topic", "status/one", "status/two", "publishers.mqtt.status_topic"},
    {"publishers.mqtt.overflow", "overflow: refuse #", "overflow: drop_oldest #",
     "publishers.mqtt.overflow"},
    {"publishers.mqtt.window", "window: 500", "window: 499", "publishers.mqtt.window"},
    {"publishers.mqtt.retry_for", "23h", "22h", "publishers.mqtt.retry_for"},
    {"topic_map", "  - {object_type: \"*\", fallback: true, kafka: {topic: rest}}\n", "",
     "topic_map"},
    {"topic_map[].object_type", "object_type: lead", "object_type: contact", "topic_map"},
    {"topic_map[].action", "[created, updated]", "[created, deleted]", "topic_map"},
    {"topic_map[].category", "category: opportunity\n    labels: [Opportunity in New Status]",
     "category: call", "topic_map"},
    {"topic_map[].labels", "    labels: [Opportunity in New Status]\n", "", "topic_map"},
    {"topic_map[].group", "    group: Statuses\n", "", "topic_map"},
    {"topic_map[].account", "account: main", "account: second", "topic_map"},
    {"topic_map[].fallback", "fallback: true", "fallback: false", "topic_map"},
    {"topic_map[].extra_filter", "value: user_1", "value: user_2", "topic_map"},
    {"topic_map[].fields", "    fields: {drop: [data.emails]}\n", "", "topic_map"},
    {"topic_map[].fields.drop", "[data.emails]", "[data.phones]", "topic_map"},
    {"topic_map[].fields.keep", "[data.name]", "[data.label]", "topic_map"},
    {"topic_map[].kafka", "    mqtt: {topic: leads/x, qos: 1, retain: false, format: event}\n", "",
     "topic_map"},
    {"topic_map[].mqtt", "    mqtt: {topic: leads/x, qos: 1, retain: false, format: event}\n", "",
     "topic_map"},
    {"topic_map[].kafka.topic", "topic: leads,", "topic: leads.2,", "topic_map"},
    {"topic_map[].kafka.key", "key: lead_id", "key: \"{lead_id}.{action}\"", "topic_map"},
    {"topic_map[].kafka.format", "key: lead_id, format: event", "key: lead_id, format: msgpack",
     "topic_map"},
    {"topic_map[].kafka.timestamp", "timestamp: received", "timestamp: event", "topic_map"},
    {"topic_map[].kafka.tombstone", "key: object_id", "key: object_id, tombstone: true",
     "topic_map"},
    {"topic_map[].mqtt.topic", "leads/x", "leads/y", "topic_map"},
    {"topic_map[].mqtt.qos", "qos: 1", "qos: 2", "topic_map"},
    {"topic_map[].mqtt.retain", "retain: false", "retain: true", "topic_map"},
    {"topic_map[].mqtt.format", "retain: false, format: event", "retain: false, format: msgpack",
     "topic_map"},
};

enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };

/* The base with one piece replaced. */
static void edit(const struct change *change, struct buf *yaml)
{
    const char *at = change ? strstr(base, change->from) : base;

    if (!at)
        fail_msg("%s: \"%s\" is not in the base", change->row, change->from);
    buf_append(yaml, base, (size_t)(at - base));
    if (change) {
        buf_append_string(yaml, change->to);
        at += strlen(change->from);
    }
    buf_append_string(yaml, at);
}

static struct config *parse(const struct change *change)
{
    struct buf messages = {0};
    struct buf yaml = {0};
    struct config *config;

    edit(change, &yaml);
    config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!config)
        fail_msg("%s", messages.data);
    buf_release(&messages);
    buf_release(&yaml);
    return config;
}

static void add_name(void *context, const char *name, const struct directive *row)
{
    struct buf *names = context;

    assert_non_null(row);
    buf_printf(names, "%s%s", names->size ? " " : "", name);
}

static void check_names(const struct config *before, const struct config *after,
                        const char *expected)
{
    struct buf names = {0};

    config_diff(before, after, add_name, &names);
    assert_string_equal(names.data ? names.data : "", expected);
    buf_release(&names);
}

static void every_setting_is_named_when_it_changes_and_no_other(void **state)
{
    struct config *before = parse(NULL);

    (void)state;
    check_names(before, before, "");
    for (size_t i = 0; i < CHANGES; i++) {
        struct config *after = parse(&changes[i]);

        check_names(before, after, changes[i].names);
        check_names(after, after, "");
        config_free(after);
    }
    config_free(before);
}

static void no_setting_is_forgotten(void **state)
{
    (void)state;
    for (size_t r = 0; r < config_directive_count; r++) {
        const char *path = config_directives[r].path;
        bool found = strcmp(path, "journal.acknowledge") == 0 || /* see below */
                     strcmp(path, "publishers.kafka.create_topics") == 0 ||
                     strcmp(path, "publishers.mqtt") == 0;

        for (size_t i = 0; i < CHANGES; i++)
            found = found || strcmp(changes[i].row, path) == 0;
        if (!found)
            fail_msg("no case for %s", path);
    }
}

/* The base's publishers as they are, with `kafka` and `mqtt` as text. */
static struct config *with_publishers(const char *kafka, const char *mqtt, const char *more)
{
    struct buf messages = {0};
    struct buf yaml = {0};
    struct config *config;

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
               "publishers:\n%s%s"
               "topic_map: [{object_type: lead, %s: {topic: leads}}]\n%s",
               kafka, mqtt, *kafka ? "kafka" : "mqtt", more);
    config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!config)
        fail_msg("%s", messages.data);
    buf_release(&messages);
    buf_release(&yaml);
    return config;
}

#define KAFKA "  kafka: {bootstrap.servers: \"a:1\"}\n"
#define MQTT "  mqtt: {url: \"mqtt://a\"}\n"

static void a_publisher_that_comes_or_goes_is_named_as_a_whole(void **state)
{
    struct config *kafka = with_publishers(KAFKA, "", "");
    struct config *both = with_publishers(KAFKA, MQTT, "");

    (void)state;
    check_names(kafka, both, "publishers.mqtt");
    check_names(both, kafka, "publishers.mqtt");
    assert_false(config_same_publisher(kafka, both, PUBLISHER_MQTT));
    assert_true(config_same_publisher(kafka, both, PUBLISHER_KAFKA));
    config_free(kafka);
    config_free(both);
}

static void only_what_a_publisher_runs_with_makes_it_another_one(void **state)
{
    static const struct {
        const char *kafka;
        const char *mqtt;
        const char *more;
        bool same_kafka;
        bool same_mqtt;
    } cases[] = {
        {KAFKA, MQTT, "", true, true},
        {"  kafka: {bootstrap.servers: \"a:1\", overflow: drop_oldest, window: 7, retry_for: 1h,\n"
         "          create_topics: true}\n",
         "  mqtt: {url: \"mqtt://a\", overflow: drop_oldest, retry_for: 1h}\n", "", true, true},
        {"  kafka: {bootstrap.servers: \"b:1\"}\n", "  mqtt: {url: \"mqtt://b\"}\n", "", false,
         false},
        {"  kafka: {bootstrap.servers: \"a:1\", linger.ms: 7}\n",
         "  mqtt: {url: \"mqtt://a\", keepalive: 11s}\n", "", false, false},
        {KAFKA, "  mqtt: {url: \"mqtt://a\", window: 7}\n", "", true, false},
        {KAFKA, MQTT, "listen: {max_body: 1MiB}\n", false, true},
        {KAFKA, MQTT, "journal: {acknowledge_timeout: 4s}\n", true, true},
    };
    struct config *before = with_publishers(KAFKA, MQTT, "");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config *after = with_publishers(cases[i].kafka, cases[i].mqtt, cases[i].more);

        assert_int_equal(config_same_publisher(before, after, PUBLISHER_KAFKA),
                         cases[i].same_kafka);
        assert_int_equal(config_same_publisher(before, after, PUBLISHER_MQTT), cases[i].same_mqtt);
        config_free(after);
    }
    config_free(before);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_renewed_file_of_kafkas_makes_it_another_one(void **state)
{
    char path[] = "/tmp/config-diff-XXXXXX";
    char kafka[200];
    int fd = mkstemp(path);
    struct config *before;
    struct config *after;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    snprintf(kafka, sizeof(kafka),
             "  kafka: {bootstrap.servers: \"a:1\", sasl.kerberos.keytab: %s}\n", path);
    before = with_publishers(kafka, "", "");
    after = with_publishers(kafka, "", "");
    assert_true(config_same_publisher(before, after, PUBLISHER_KAFKA));
    config_free(after);
    write_file(path, "renewed");
    after = with_publishers(kafka, "", "");
    assert_false(config_same_publisher(before, after, PUBLISHER_KAFKA));
    check_names(before, after, "publishers.kafka");
    config_free(after);
    config_free(before);
    unlink(path);
}

static void what_needs_a_restart_is_a_mistake_of_a_reload(void **state)
{
    static const char *const fixed[] = {
        "listen.address",    "listen.threads", "listen.max_connections_per_address",
        "control.address",   "journal.path",   "journal.max_size",
        "journal.dedupe_max"};
    struct config *in_force = parse(NULL);
    size_t refused = 0;

    (void)state;
    for (size_t i = 0; i < CHANGES; i++) {
        struct buf messages = {0};
        struct buf yaml = {0};
        struct config *config;
        bool is_fixed = false;

        edit(&changes[i], &yaml);
        config = config_reparse(in_force, buf_text(&yaml), &messages);
        for (size_t f = 0; f < sizeof(fixed) / sizeof(fixed[0]); f++)
            is_fixed = is_fixed || strcmp(fixed[f], changes[i].row) == 0;
        assert_int_equal(config == NULL, is_fixed);
        if (is_fixed) {
            assert_non_null(strstr(messages.data, changes[i].row));
            assert_non_null(strstr(messages.data, ": cannot change while the bridge runs: restart "
                                                  "it, or put the value back\n"));
            refused++;
        }
        config_free(config);
        buf_release(&messages);
        buf_release(&yaml);
    }
    assert_int_equal(refused, sizeof(fixed) / sizeof(fixed[0]));
    config_free(in_force);
}

static void threads_that_nobody_named_stay_as_they_are(void **state)
{
    struct config *in_force = with_publishers(KAFKA, "", "listen: {threads: 77}\n");
    struct buf messages = {0};
    const char yaml[] =
        "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
        "publishers:\n" KAFKA "topic_map: [{object_type: lead, kafka: {topic: leads}}]\n";
    struct config *config = config_reparse(in_force, text_of(yaml), &messages);

    (void)state;
    assert_non_null(config);
    assert_int_equal(config->listen.threads, 77);
    config_free(config);
    config_free(in_force);
    buf_release(&messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_setting_is_named_when_it_changes_and_no_other),
        cmocka_unit_test(no_setting_is_forgotten),
        cmocka_unit_test(a_publisher_that_comes_or_goes_is_named_as_a_whole),
        cmocka_unit_test(only_what_a_publisher_runs_with_makes_it_another_one),
        cmocka_unit_test(a_renewed_file_of_kafkas_makes_it_another_one),
        cmocka_unit_test(what_needs_a_restart_is_a_mistake_of_a_reload),
        cmocka_unit_test(threads_that_nobody_named_stay_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
