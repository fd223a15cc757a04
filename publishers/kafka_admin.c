#include "publishers/kafka_admin.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "publishers/kafka_options.h"
#include "publishers/kafka_publisher.h"

enum {
    SLICE_MS = 200,     /* how late a cancellation is seen at most, but for ... */
    METADATA_MS = 1000, /* ... a broker that does not answer */
    REQUEST_MS = 10000, /* for the cluster to do what it is asked */
    BATCH = 100,        /* topics in one request */
    REASON_SIZE = 160,
};

static const char size_setting[] = "max.message.bytes";

struct look {
    const struct kafka_topic_options *topics;
    struct kafka_topic_report *reports;
    struct kafka_topic_keeping *keeping;
    size_t count; /* of whichever of the two is looked at */
    int64_t deadline_ms;
    const atomic_bool *is_cancelled;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    int64_t record_bytes; /* the largest record that the producer takes */
};

const char *kafka_topic_state_name(enum kafka_topic_state state)
{
    static const char *const names[KAFKA_TOPIC_STATES] = {
        [KAFKA_TOPIC_PRESENT] = "present",     [KAFKA_TOPIC_CREATED] = "created",
        [KAFKA_TOPIC_MISSING] = "missing",     [KAFKA_TOPIC_NOT_CREATED] = "not_created",
        [KAFKA_TOPIC_TOO_SMALL] = "too_small",
    };

    return names[state];
}

static int64_t left_ms(const struct look *look)
{
    int64_t left = look->deadline_ms - clock_monotonic_ms(&clock_system);

    return atomic_load(look->is_cancelled) || left < 0 ? 0 : left;
}

static int give_up(const struct look *look, const char *reason, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT, "the topics of Kafka cannot be looked at: %s",
                     atomic_load(look->is_cancelled) ? "cancelled" : reason);
}

/* ---- the client ---- */

static int64_t read_record_bytes(const rd_kafka_conf_t *conf)
{
    char value[32] = "";
    size_t size = sizeof(value);

    return rd_kafka_conf_get(conf, "message.max.bytes", value, &size) == RD_KAFKA_CONF_OK
               ? strtoll(value, NULL, 10)
               : 0;
}

/* A producer, because its properties are those that the user wrote; it produces nothing. */
static int open_client(struct look *look, const struct kafka_options *options, struct error *err)
{
    rd_kafka_conf_t *conf = kafka_options_conf(options, 0, err);
    char message[REASON_SIZE];

    if (!conf)
        return -1;
    look->record_bytes = read_record_bytes(conf);
    rd_kafka_conf_set_log_cb(conf, NULL); /* the producer that publishes says what is wrong */
    look->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, message, sizeof(message));
    if (!look->client) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, ERROR_CONFIG, "%s", message);
    }
    look->queue = rd_kafka_queue_new(look->client);
    return 0;
}

static void close_client(struct look *look)
{
    if (look->queue)
        rd_kafka_queue_destroy(look->queue);
    if (look->client)
        rd_kafka_destroy(look->client);
}

/* Returns owned the result of a request, or NULL when it does not come in time. */
static rd_kafka_event_t *wait_for_result(struct look *look, struct error *err)
{
    for (;;) {
        int64_t left = left_ms(look);
        rd_kafka_event_t *event =
            rd_kafka_queue_poll(look->queue, (int)(left < SLICE_MS ? left : SLICE_MS));

        if (event && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
            return event;
        if (event) {
            give_up(look, rd_kafka_event_error_string(event), err);
            rd_kafka_event_destroy(event);
            return NULL;
        }
        if (left == 0) {
            give_up(look, "the cluster did not answer in time", err);
            return NULL;
        }
    }
}

/* Returns owned. */
static rd_kafka_AdminOptions_t *new_admin_options(const struct look *look, rd_kafka_admin_op_t op)
{
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(look->client, op);
    char message[REASON_SIZE];

    rd_kafka_AdminOptions_set_request_timeout(options, REQUEST_MS, message, sizeof(message));
    if (op == RD_KAFKA_ADMIN_OP_CREATETOPICS) /* answered when the topics are there */
        rd_kafka_AdminOptions_set_operation_timeout(options, REQUEST_MS / 2, message,
                                                    sizeof(message));
    return options;
}

static struct kafka_topic_report *find_report(const struct look *look, const char *name)
{
    for (size_t i = 0; i < look->count; i++) {
        if (strcmp(look->reports[i].name, name) == 0)
            return &look->reports[i];
    }
    return NULL;
}

__attribute__((format(printf, 3, 4))) static void
set_state(struct kafka_topic_report *report, enum kafka_topic_state state, const char *fmt, ...)
{
    va_list args;

    report->state = state;
    va_start(args, fmt);
    vsnprintf(report->detail, sizeof(report->detail), fmt, args);
    va_end(args);
}

/* ---- which are there ---- */

/* Asks for all topics: to ask for one by its name would make an auto-creating broker create it. */
static int find_present(struct look *look, struct error *err)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code;

    do {
        code = rd_kafka_metadata(look->client, 1, NULL, &metadata, METADATA_MS);
    } while (code != RD_KAFKA_RESP_ERR_NO_ERROR && left_ms(look) > 0);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return give_up(look, rd_kafka_err2str(code), err);
    for (size_t i = 0; i < look->count; i++)
        set_state(&look->reports[i], KAFKA_TOPIC_MISSING,
                  "it is not there: create it, set create_topics, or let the broker do it "
                  "(auto.create.topics.enable)");
    for (int i = 0; i < metadata->topic_cnt; i++) {
        struct kafka_topic_report *report = find_report(look, metadata->topics[i].topic);

        if (report && metadata->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
            set_state(report, KAFKA_TOPIC_PRESENT, "%s", "");
    }
    rd_kafka_metadata_destroy(metadata);
    return 0;
}

/* ---- creating ---- */

static void set_config(rd_kafka_NewTopic_t *topic, const struct look *look)
{
    char fitting[32];

    snprintf(fitting, sizeof(fitting), "%" PRId64, look->record_bytes);
    rd_kafka_NewTopic_set_config(topic, size_setting, fitting);
    /* What is set later counts. */
    for (size_t i = 0; i < look->topics->config_count; i++)
        rd_kafka_NewTopic_set_config(topic, look->topics->config[i].name,
                                     look->topics->config[i].value);
}

/* Returns owned, NULL when the name or a number is refused: `report` says so. */
static rd_kafka_NewTopic_t *new_topic(const struct look *look, struct kafka_topic_report *report)
{
    const struct kafka_topic_options *options = look->topics;
    char message[REASON_SIZE];
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(report->name, options->partitions ? (int)options->partitions : -1,
                              options->replication_factor ? (int)options->replication_factor : -1,
                              message, sizeof(message));

    if (topic)
        set_config(topic, look);
    else
        set_state(report, KAFKA_TOPIC_NOT_CREATED, "%s", message);
    return topic;
}

static void take_created(struct look *look, rd_kafka_event_t *event)
{
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);

    for (size_t i = 0; i < count; i++) {
        struct kafka_topic_report *report =
            find_report(look, rd_kafka_topic_result_name(results[i]));
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
        const char *reason = rd_kafka_topic_result_error_string(results[i]);

        if (!report)
            continue;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            set_state(report, KAFKA_TOPIC_CREATED, "%s", "");
        else if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) /* another bridge was faster */
            set_state(report, KAFKA_TOPIC_PRESENT, "%s", "");
        else
            set_state(report, KAFKA_TOPIC_NOT_CREATED, "%s",
                      reason && *reason ? reason : rd_kafka_err2str(code));
    }
}

static int create(struct look *look, rd_kafka_NewTopic_t **topics, size_t count, struct error *err)
{
    rd_kafka_AdminOptions_t *options = new_admin_options(look, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_event_t *event;

    rd_kafka_CreateTopics(look->client, topics, count, options, look->queue);
    rd_kafka_AdminOptions_destroy(options);
    event = wait_for_result(look, err);
    if (!event)
        return -1;
    take_created(look, event);
    rd_kafka_event_destroy(event);
    return 0;
}

static int create_missing(struct look *look, struct error *err)
{
    size_t at = 0;
    int rc = 0;

    while (at < look->count && rc == 0) {
        rd_kafka_NewTopic_t *topics[BATCH];
        size_t count = 0;

        for (; at < look->count && count < BATCH; at++) {
            if (look->reports[at].state != KAFKA_TOPIC_MISSING)
                continue;
            topics[count] = new_topic(look, &look->reports[at]);
            count += topics[count] != NULL;
        }
        if (count > 0)
            rc = create(look, topics, count, err);
        rd_kafka_NewTopic_destroy_array(topics, count);
    }
    return rc;
}

/* ---- what they are set to ---- */

/* NULL: not said, or not for us to see. */
static const char *setting_in(const rd_kafka_ConfigResource_t *resource, const char *name)
{
    size_t count;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
            return rd_kafka_ConfigEntry_value(entries[i]);
    }
    return NULL;
}

static void take_described(struct look *look, rd_kafka_event_t *event,
                           void (*take)(struct look *, const rd_kafka_ConfigResource_t *))
{
    size_t count;
    const rd_kafka_ConfigResource_t **resources = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event), &count);

    for (size_t i = 0; i < count; i++)
        take(look, resources[i]);
}

static int describe(struct look *look, rd_kafka_ConfigResource_t **resources, size_t count,
                    void (*take)(struct look *, const rd_kafka_ConfigResource_t *),
                    struct error *err)
{
    rd_kafka_AdminOptions_t *options = new_admin_options(look, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_event_t *event;

    rd_kafka_DescribeConfigs(look->client, resources, count, options, look->queue);
    rd_kafka_AdminOptions_destroy(options);
    event = wait_for_result(look, err);
    if (!event)
        return -1;
    take_described(look, event, take);
    rd_kafka_event_destroy(event);
    return 0;
}

/* ---- what they take ---- */

static void judge_size(struct look *look, const rd_kafka_ConfigResource_t *resource)
{
    struct kafka_topic_report *report = find_report(look, rd_kafka_ConfigResource_name(resource));
    const char *value = setting_in(resource, size_setting);
    int64_t bytes = value ? strtoll(value, NULL, 10) : 0;

    if (report && bytes > 0 && bytes < look->record_bytes)
        set_state(report, KAFKA_TOPIC_TOO_SMALL,
                  "it takes records of at most %" PRId64 " bytes, an event can make one of "
                  "%" PRId64 ": raise its %s, or lower listen.max_body",
                  bytes, look->record_bytes, size_setting);
}

static int check_sizes(struct look *look, struct error *err)
{
    size_t at = 0;
    int rc = 0;

    while (at < look->count && rc == 0) {
        rd_kafka_ConfigResource_t *resources[BATCH];
        size_t count = 0;

        for (; at < look->count && count < BATCH; at++) {
            if (look->reports[at].state == KAFKA_TOPIC_PRESENT)
                resources[count++] =
                    rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, look->reports[at].name);
        }
        if (count > 0)
            rc = describe(look, resources, count, judge_size, err);
        rd_kafka_ConfigResource_destroy_array(resources, count);
    }
    return rc;
}

int kafka_admin_look(const struct kafka_options *options, const struct kafka_topic_options *topics,
                     struct kafka_topic_report *reports, size_t count, int64_t timeout_ms,
                     const atomic_bool *is_cancelled, struct error *err)
{
    struct look look = {
        .topics = topics,
        .reports = reports,
        .count = count,
        .deadline_ms = clock_monotonic_ms(&clock_system) + timeout_ms,
        .is_cancelled = is_cancelled,
    };
    int rc = open_client(&look, options, err);

    if (rc == 0)
        rc = find_present(&look, err);
    if (rc == 0 && topics->are_created)
        rc = create_missing(&look, err);
    if (rc == 0)
        rc = check_sizes(&look, err);
    close_client(&look);
    return rc;
}

/* ---- how long they keep it ---- */

static struct kafka_topic_keeping *find_keeping(const struct look *look, const char *name)
{
    for (size_t i = 0; i < look->count; i++) {
        if (strcmp(look->keeping[i].name, name) == 0)
            return &look->keeping[i];
    }
    return NULL;
}

static bool is_set_to(const rd_kafka_ConfigResource_t *resource, const char *name,
                      const char *wanted)
{
    const char *value = setting_in(resource, name);

    return value && strcmp(value, wanted) == 0;
}

static void take_keeping(struct look *look, const rd_kafka_ConfigResource_t *resource)
{
    struct kafka_topic_keeping *topic = find_keeping(look, rd_kafka_ConfigResource_name(resource));
    const char *value = setting_in(resource, "retention.ms");
    const char *reason = rd_kafka_ConfigResource_error_string(resource);

    if (!topic)
        return;
    if (rd_kafka_ConfigResource_error(resource) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
        topic->keeping = KAFKA_KEEPS_NOTHING;
        return;
    }
    if (rd_kafka_ConfigResource_error(resource) != RD_KAFKA_RESP_ERR_NO_ERROR || !value) {
        snprintf(topic->detail, sizeof(topic->detail), "%s",
                 reason && *reason ? reason : "the broker does not say");
        return;
    }
    topic->retention_ms = strtoll(value, NULL, 10);
    topic->keeping = topic->retention_ms < 0 || is_set_to(resource, "cleanup.policy", "compact")
                         ? KAFKA_KEEPS_FOREVER
                         : KAFKA_KEEPS_FOR;
    topic->is_stamped_by_broker = is_set_to(resource, "message.timestamp.type", "LogAppendTime");
}

static int ask_keeping(struct look *look, struct error *err)
{
    int rc = 0;

    for (size_t at = 0; at < look->count && rc == 0; at += BATCH) {
        rd_kafka_ConfigResource_t *resources[BATCH];
        size_t count = 0;

        for (; count < BATCH && at + count < look->count; count++)
            resources[count] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC,
                                                           look->keeping[at + count].name);
        rc = describe(look, resources, count, take_keeping, err);
        rd_kafka_ConfigResource_destroy_array(resources, count);
    }
    return rc;
}

int kafka_admin_keeping(const struct kafka_options *options, struct kafka_topic_keeping *topics,
                        size_t count, int64_t timeout_ms, const atomic_bool *is_cancelled,
                        struct error *err)
{
    struct look look = {
        .keeping = topics,
        .count = count,
        .deadline_ms = clock_monotonic_ms(&clock_system) + timeout_ms,
        .is_cancelled = is_cancelled,
    };
    int rc;

    for (size_t i = 0; i < count; i++)
        topics[i] =
            (struct kafka_topic_keeping){.name = topics[i].name, .keeping = KAFKA_KEEPING_UNKNOWN};
    rc = open_client(&look, options, err);
    if (rc == 0)
        rc = ask_keeping(&look, err);
    close_client(&look);
    return rc;
}
