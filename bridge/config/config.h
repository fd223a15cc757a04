/*
 * The configuration: one YAML file, read at once, checked whole, never changed afterwards. A reload
 * makes another one.
 *
 * Every mistake has its place: "close-bridge.yaml:14: listen.max_body: 128MiB is above the limit of
 * 64MiB". Templates, filters and keys are compiled here, so that a configuration that loads can be
 * served.
 *
 * Ownership: a config owns all it points to and is counted: whoever keeps it, or anything in it,
 * beyond a call holds a reference. It is read-only. Any thread. Secrets in it are wiped with the
 * last reference.
 */
#ifndef BRIDGE_CONFIG_CONFIG_H
#define BRIDGE_CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "publishers/kafka_admin.h"
#include "publishers/kafka_publisher.h"
#include "publishers/mqtt_publisher.h"
#include "publishers/topic_template.h"
#include "schemas/encoder.h"

struct buf;
struct field_policy;
struct filter;

enum { SIGNATURE_KEY_SIZE = 32 };

enum acknowledge { ACKNOWLEDGE_JOURNAL, ACKNOWLEDGE_BROKER };
enum overflow { OVERFLOW_REFUSE, OVERFLOW_DROP_OLDEST };
enum sync_when { SYNC_STARTUP, SYNC_MANUAL, SYNC_INTERVAL };
enum on_stop { ON_STOP_KEEP, ON_STOP_UNSUBSCRIBE };

struct config_tls {
    char *certificate; /* NULL: plain HTTP */
    char *key;
    char *client_ca; /* NULL: clients need no certificate */
    int line;
};

/* How the account is caught up with Close's Event Log. */
struct config_catch_up {
    int64_t interval_ms; /* between two runs; 0: only when somebody asks */
    int64_t overlap_ms;  /* read again, before the point that the last run reached */
    int64_t settle_ms;   /* younger events may still change: they are left to the next run */
    int64_t max_age_ms;  /* a run goes back no further */
};

struct config_account {
    char *name;
    int line;
    unsigned char (*signature_keys)[SIGNATURE_KEY_SIZE];
    size_t signature_key_count;
    int64_t replay_window_ms; /* 0: off */
    char *api_key;            /* NULL: none */
    char *oauth_token;        /* NULL: none */
    char *api_url;
    char *webhook_url; /* NULL: none */
    enum sync_when sync;
    int64_t sync_interval_ms;
    bool verify_ssl;
    enum on_stop on_stop;
    struct config_catch_up catch_up;
};

/* What every publisher has, whatever its broker. */
struct config_publisher {
    bool is_configured;
    int line;
    enum overflow overflow;
    uint32_t window;      /* events between the newest submitted and the durable cursor */
    int64_t retry_for_ms; /* how long a parked topic is tried before its records are dead letters */
};

enum key_kind {
    KEY_LEAD_ID,
    KEY_OBJECT_ID,
    KEY_EVENT_ID,
    KEY_ORGANIZATION_ID,
    KEY_NONE,
    KEY_TEMPLATE
};

/* One destination of an entry. */
struct config_target {
    bool is_configured;
    int line;
    struct topic_template *topic;
    char *topic_source; /* as written */
    enum format format;
    char *key_source;                    /* Kafka: as written */
    enum key_kind key;                   /* Kafka */
    struct topic_template *key_template; /* with KEY_TEMPLATE */
    const struct field_policy *fields;   /* of the entry; NULL: none */
    bool timestamp_is_event;             /* Kafka */
    bool tombstone;                      /* Kafka: null value for deletions */
    int qos;                             /* MQTT */
    bool retain;                         /* MQTT */
};

struct config_entry {
    int line;
    /* Either object_type (exact, "prefix.*", "*") and actions, or category with labels and group.
     */
    char *object_type; /* NULL with a category */
    char **actions;    /* count 0: every action */
    size_t action_count;
    char *category; /* NULL with an object_type */
    char **labels;  /* count 0: every label of the category */
    size_t label_count;
    char *group;   /* NULL: every group */
    char *account; /* NULL: every account */
    bool fallback;
    struct filter *filter;       /* NULL: none */
    struct field_policy *fields; /* NULL: consumers get every field */
    struct config_target kafka;
    struct config_target mqtt;
};

struct config {
    atomic_uint references;
    char *path;
    struct {
        char *host;
        uint16_t port; /* 0: any free one; the log says which */
        struct config_tls tls;
        uint64_t max_body;
        uint32_t threads;
        uint32_t max_connections_per_address; /* 0: no limit */
        char *health_path;                    /* NULL: none */
    } listen;
    struct {
        char *host; /* NULL with a socket */
        uint16_t port;
        char *socket_path; /* NULL with host and port */
        char *token;       /* NULL: none */
        struct config_tls tls;
        char *client_certificate; /* what our own commands show; NULL: none */
        char *client_key;
    } control;
    struct {
        char *path;
        enum acknowledge acknowledge;
        int64_t acknowledge_timeout_ms;
        int64_t retention_ms;
        uint64_t max_size;
        int64_t dedupe_window_ms;
        uint32_t dedupe_max;
    } journal;
    char *dead_letter_topic; /* Kafka; NULL: none */
    struct config_account *accounts;
    size_t account_count;
    struct config_publisher kafka;
    struct kafka_options kafka_options;
    struct kafka_topic_options kafka_topics;
    struct config_publisher mqtt;
    struct mqtt_options mqtt_options;
    struct config_entry *entries;
    size_t entry_count;
};

/*
 * Reads and checks the file. Returns owned (config_free), or NULL when there is any mistake. Every
 * mistake and every warning is appended to `messages`, one line each, "FILE:LINE: ..."; warnings
 * begin their text with "warning: ".
 */
struct config *config_load(const char *path, struct buf *messages);

/* The same for a file that was read already; `path` is for messages and relative paths. */
struct config *config_parse(const char *path, struct text yaml, struct buf *messages);

/*
 * The same for a configuration that is to take the place of one in force, whose file is read again.
 * Settings that cannot change while the bridge runs are mistakes when they differ.
 */
struct config *config_reload(const struct config *in_force, struct buf *messages);
struct config *config_reparse(const struct config *in_force, struct text yaml,
                              struct buf *messages);

/* Returns it, with one reference more. */
const struct config *config_ref(const struct config *config);

/* Gives up a reference. NULL is a no-op. */
void config_free(const struct config *config);

#endif
