/*
 * What the tests of the configuration share: the parts of a file, reading them, and comparing what
 * is said of them. Failures assert.
 */
#ifndef TESTS_UNIT_BRIDGE_CONFIG_FIXTURE_H
#define TESTS_UNIT_BRIDGE_CONFIG_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct config;

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define KEY2 "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"

/* Parts of a file that is complete: a test replaces or adds to one of them. Each is one line. */
#define ACCOUNTS "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
#define PUBLISHERS "publishers: {kafka: {bootstrap.servers: \"localhost:9092\"}}\n"
#define TOPIC_MAP "topic_map: [{object_type: lead, kafka: {topic: leads}}]\n"
#define BASE ACCOUNTS PUBLISHERS TOPIC_MAP
#define MQTT "publishers: {mqtt: {url: \"mqtt://broker\"}}\n"

/* The configuration in `yaml` as the file c.yaml, or NULL; `messages` gets what is said. */
struct config *fixture_parse(const char *yaml, struct buf *messages);

/* The same of a file of which nothing is to be said. */
struct config *fixture_parse_good(const char *yaml);

/* True when `expected` is one of the messages, as a whole line. */
bool fixture_has_line(const struct buf *messages, const char *expected);

/* A file and all that is said of it. */
struct said {
    const char *yaml;
    const char *messages;
};

void fixture_check_said(const struct said *cases, size_t count, bool loads);

#define SAID(cases, loads) fixture_check_said(cases, sizeof(cases) / sizeof((cases)[0]), loads)

#endif
