#include "publishers/kafka_options.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/error.h"
#include "publishers/kafka_publisher.h"

/* What differs from librdkafka's defaults and why: TRAPS K1, K3, K15; the rest is DESIGN section 4.
 */
static const struct {
    const char *name;
    const char *value;
} our_defaults[] = {
    {"client.id", "close-bridge"},
    {"compression.codec", "lz4"},
    {"linger.ms", "2"},
    {"partitioner", "murmur2_random"}, /* as Java clients */
    {"queue.buffering.max.kbytes", "262144"},
    {"reconnect.backoff.max.ms", "2000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {"topic.metadata.propagation.max.ms", "10000"},
    {"topic.metadata.refresh.interval.ms", "30000"},
};

/* The promise rests on these: they are not anybody's to change. Other spellings are librdkafka's
 * aliases. */
static const struct {
    const char *name;
    const char *why;
} ours_alone[] = {
    {"acks", "it is always all: what is acknowledged must be on every in-sync replica"},
    {"request.required.acks",
     "it is always all: what is acknowledged must be on every in-sync replica"},
    {"enable.idempotence", "it is always true"},
    {"message.timeout.ms", "the bridge decides how long a record is tried"},
    {"delivery.timeout.ms", "the bridge decides how long a record is tried"},
    {"enable.gapless.guarantee", "the bridge's own journal keeps what could not be sent"},
    {"transactional.id", "the bridge uses no transactions"},
};

static bool is_secret(const char *name)
{
    return strstr(name, "password") || strstr(name, "secret") || strstr(name, "key") ||
           strstr(name, "jaas") || strstr(name, "oauthbearer");
}

static const char *why_ours(const char *name)
{
    for (size_t i = 0; i < sizeof(ours_alone) / sizeof(ours_alone[0]); i++) {
        if (strcmp(name, ours_alone[i].name) == 0)
            return ours_alone[i].why;
    }
    return NULL;
}

static int set_property(rd_kafka_conf_t *conf, const char *name, const char *value,
                        struct error *err)
{
    char message[256];

    switch (rd_kafka_conf_set(conf, name, value, message, sizeof(message))) {
    case RD_KAFKA_CONF_OK:
        return 0;
    case RD_KAFKA_CONF_UNKNOWN:
        return error_set(err, ERROR_CONFIG, "librdkafka %s has no property of this name",
                         rd_kafka_version_str());
    case RD_KAFKA_CONF_INVALID:
        break;
    }
    /* librdkafka's sentence repeats the value. */
    if (is_secret(name))
        return error_set(err, ERROR_CONFIG, "librdkafka refuses the value");
    return error_set(err, ERROR_CONFIG, "%s", message);
}

static int set_number(rd_kafka_conf_t *conf, const char *name, int64_t value, struct error *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    if (set_property(conf, name, text, err) < 0)
        return error_context(err, "%s", name);
    return 0;
}

static bool is_set(const struct kafka_options *options, const char *name)
{
    for (size_t i = 0; i < options->property_count; i++) {
        if (strcmp(options->properties[i].name, name) == 0)
            return true;
    }
    return false;
}

static int set_defaults(rd_kafka_conf_t *conf, const struct kafka_options *options,
                        struct error *err)
{
    for (size_t i = 0; i < sizeof(our_defaults) / sizeof(our_defaults[0]); i++) {
        if (!is_set(options, our_defaults[i].name) &&
            set_property(conf, our_defaults[i].name, our_defaults[i].value, err) < 0)
            return error_context(err, "%s", our_defaults[i].name);
    }
    if (!is_set(options, "message.max.bytes") && options->max_message_bytes > 0 &&
        set_number(conf, "message.max.bytes", (int64_t)options->max_message_bytes, err) < 0)
        return -1;
    if (set_property(conf, "enable.idempotence", "true", err) < 0 ||
        set_property(conf, "acks", "all", err) < 0)
        return -1;
    return set_number(conf, "message.timeout.ms", options->message_timeout_ms, err);
}

void *kafka_options_conf(const struct kafka_options *options, struct error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    if (set_defaults(conf, options, err) < 0)
        goto fail;
    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];

        if (set_property(conf, property->name, property->value, err) < 0) {
            error_context(err, "%s", property->name);
            goto fail;
        }
    }
    return conf;

fail:
    rd_kafka_conf_destroy(conf);
    return NULL;
}

size_t kafka_options_check(const struct kafka_options *options,
                           void (*report)(void *context, const struct kafka_property *property,
                                          const char *message),
                           void *context)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    size_t mistakes = 0;

    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];
        const char *why = why_ours(property->name);
        struct error err = {0};

        if (!why && set_property(conf, property->name, property->value, &err) == 0)
            continue;
        if (why)
            error_set(&err, ERROR_CONFIG, "this property is the bridge's: %s", why);
        report(context, property, err.message);
        mistakes++;
    }
    rd_kafka_conf_destroy(conf);
    return mistakes;
}
