#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "schemas/filter.h"
#include "tests/unit/bridge/config/config_fixture.h"

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
    struct config *config = fixture_parse_good(
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
        {ACCOUNTS TOPIC_MAP "publishers: {kafka: {bootstrap.servers: ''}}\n",
         "c.yaml:3: publishers.kafka.bootstrap.servers: is empty: write host:port, several with "
         "commas\n"},
        {ACCOUNTS TOPIC_MAP "publishers: {kafka: }\n",
         "c.yaml:3: publishers.kafka: expected a mapping, found nothing\n"},
        {KAFKA("overflow: drop_newest"), "c.yaml:6: publishers.kafka.overflow: drop_newest is not "
                                         "one of refuse or drop_oldest; did "
                                         "you mean drop_oldest?\n"},
        {KAFKA("window: 4001"),
         "c.yaml:6: publishers.kafka.window: 4001 is above the limit of 4000\n"},
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
        {WITH_MQTT("url: 'mqtt://m', window: 501"),
         "c.yaml:3: publishers.mqtt.window: 501 is above the limit of 500\n"},
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
    assert_null(
        fixture_parse(ACCOUNTS PUBLISHERS
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
    config = fixture_parse_good(
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
    config = fixture_parse_good(BASE BROKER DEAD);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(accounts_are_checked),
        cmocka_unit_test(weak_accounts_are_a_warning),
        cmocka_unit_test(one_value_may_hold_several_keys),
        cmocka_unit_test(publishers_are_checked),
        cmocka_unit_test(entries_are_checked),
        cmocka_unit_test(bad_filters_name_what_is_wrong),
        cmocka_unit_test(filters_keep_the_types_that_were_written),
        cmocka_unit_test(broker_mode_has_its_own_rules),
        cmocka_unit_test(what_close_does_not_send_is_a_warning),
        cmocka_unit_test(every_mistake_is_said_in_the_order_of_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
