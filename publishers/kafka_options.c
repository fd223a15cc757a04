#include "publishers/kafka_options.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/alloc.h"
#include "bridge/base/error.h"
#include "publishers/kafka_publisher.h"

struct pair {
    const char *name;
    const char *value;
};

/* Set before the user's, so that theirs win, under whatever alias. */
static const struct pair our_defaults[] = {
    {"client.id", "close-bridge"},
    {"compression.codec", "lz4"},
    {"partitioner", "murmur2_random"},          /* as Java clients */
    {"queue.buffering.max.kbytes", "262144"},   /* the dispatcher's window is 64 MiB ... */
    {"queue.buffering.max.messages", "100000"}, /* ... and 4,000 events (TRAPS K3) */
    {"reconnect.backoff.max.ms", "2000"},
    {"reconnect.backoff.ms", "100"},
    {"socket.connection.setup.timeout.ms", "10000"},
    {"socket.keepalive.enable", "true"}, /* TRAPS K15 */
    {"socket.nagle.disable", "true"},
    {"socket.timeout.ms", "12000"}, /* a connection that fell silent; idempotence makes a request
                                       that is sent again harmless */
    /* A topic that appears, or is missing, is noticed within ten seconds (TRAPS K6). */
    {"topic.metadata.propagation.max.ms", "10000"},
    {"topic.metadata.refresh.interval.ms", "10000"},
};

/* Where the sender waits for the acknowledgement. Elsewhere it is librdkafka's own, which is 5. */
static const struct pair broker_mode_default = {"linger.ms", "2"};

/* Set after the user's. */
static const struct pair always[] = {
    {"acks", "all"},        {"delivery.report.only.error", "false"}, {"enable.idempotence", "true"},
    {"log.queue", "false"}, {"statistics.interval.ms", "0"}, /* TRAPS K18 */
};

/* Not anybody's to change; other spellings are librdkafka's aliases. */
static const struct pair ours_alone[] = {
    {"acks", "it is always all, because a record counts only when every in-sync replica has it"},
    {"request.required.acks",
     "acks is always all, because a record counts only when every in-sync replica has it"},
    {"enable.idempotence", "it is always true"},
    {"message.timeout.ms", "the bridge decides how long a record is tried"},
    {"delivery.timeout.ms", "the bridge decides how long a record is tried"},
    {"enable.gapless.guarantee", "the bridge itself keeps what could not be sent"},
    {"transactional.id", "the bridge uses no transactions"},
    {"delivery.report.only.error", "the bridge needs every report"},
    {"log.queue", "the bridge writes the log"},
    {"statistics.interval.ms", "the bridge has its own metrics"},
};

enum { OURS_ALONE = sizeof(ours_alone) / sizeof(ours_alone[0]) };

/* Better one value too many left out of a message than a secret in the log. */
static bool is_secret(const char *name)
{
    static const char *const parts[] = {"password", "secret", "key",   "pem",
                                        "jaas",     "oauth",  "kinit", "username"};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strstr(name, parts[i]))
            return true;
    }
    return false;
}

static int set_property(rd_kafka_conf_t *conf, const char *name, const char *value,
                        struct error *err)
{
    char message[300];

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
        return error_set(err, ERROR_CONFIG, "librdkafka does not accept the value");
    return error_set(err, ERROR_CONFIG, "%s", message);
}

static int set_pairs(rd_kafka_conf_t *conf, const struct pair *pairs, size_t count,
                     struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (set_property(conf, pairs[i].name, pairs[i].value, err) < 0)
            return error_context(err, "%s", pairs[i].name);
    }
    return 0;
}

static int set_number(rd_kafka_conf_t *conf, const char *name, int64_t value, struct error *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    return set_pairs(conf, &(struct pair){name, text}, 1, err);
}

static int set_users(rd_kafka_conf_t *conf, const struct kafka_options *options, struct error *err)
{
    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];

        if (set_property(conf, property->name, property->value, err) < 0)
            return error_context(err, "%s", property->name);
    }
    return 0;
}

/*
 * The first producer starts libsasl2, whose sasl_client_init() goes through a NULL pointer when it
 * gets no memory: it is given allocators that end the process and say why. There is no header of it
 * among what the build needs, and a librdkafka without SASL does not have it.
 */
static void tame_sasl(void)
{
    void (*set_alloc)(void *(*)(size_t), void *(*)(size_t, size_t), void *(*)(void *, size_t),
                      void (*)(void *));
    void *symbol = dlsym(RTLD_DEFAULT, "sasl_set_alloc");

    if (!symbol)
        return;
    memcpy(&set_alloc, &symbol, sizeof(set_alloc));
    set_alloc(alloc_bytes, alloc_zeroed, alloc_again, free);
}

struct rd_kafka_conf_s *kafka_options_conf(const struct kafka_options *options, int64_t batch_bytes,
                                           struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    pthread_once(&once, tame_sasl);
    if (set_pairs(conf, our_defaults, sizeof(our_defaults) / sizeof(our_defaults[0]), err) < 0 ||
        (options->message_timeout_ms > 0 && set_pairs(conf, &broker_mode_default, 1, err) < 0) ||
        (options->max_message_bytes > 0 &&
         set_number(conf, "message.max.bytes", (int64_t)options->max_message_bytes, err) < 0) ||
        set_users(conf, options, err) < 0 ||
        (batch_bytes > 0 && set_number(conf, "batch.size", batch_bytes, err) < 0) ||
        set_number(conf, "message.timeout.ms", options->message_timeout_ms, err) < 0 ||
        set_pairs(conf, always, sizeof(always) / sizeof(always[0]), err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}

/* ---- check ---- */

static const char *why_ours(const char *name)
{
    for (size_t i = 0; i < OURS_ALONE; i++) {
        if (strcmp(name, ours_alone[i].name) == 0)
            return ours_alone[i].value;
    }
    return NULL;
}

/* The property that librdkafka's sentence is about, else the first. */
static const struct kafka_property *property_in(const struct kafka_options *options,
                                                const char *message)
{
    const struct kafka_property *found = NULL;

    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];

        if (strstr(message, property->name) &&
            (!found || strlen(property->name) > strlen(found->name)))
            found = property;
    }
    return found ? found : &options->properties[0];
}

/*
 * Some mistakes show only when all properties are put together: a certificate that cannot be read,
 * max.in.flight beyond what idempotence allows. A producer without brokers connects to nothing.
 */
static int check_together(const struct kafka_options *options, struct error *err)
{
    static const struct pair nowhere[] = {{"bootstrap.servers", ""},
                                          {"test.mock.num.brokers", "0"}};
    rd_kafka_conf_t *conf = kafka_options_conf(options, 0, err);
    char message[300];
    rd_kafka_t *producer;

    if (!conf)
        return -1;
    rd_kafka_conf_set_log_cb(conf, NULL);
    if (set_pairs(conf, nowhere, sizeof(nowhere) / sizeof(nowhere[0]), err) < 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, message, sizeof(message));
    if (!producer) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, ERROR_CONFIG, "%s", message);
    }
    rd_kafka_destroy(producer);
    return 0;
}

static bool ends_with(const char *string, const char *end)
{
    size_t size = strlen(string);

    return size >= strlen(end) && strcmp(string + size - strlen(end), end) == 0;
}

/* OpenSSL's sentence about a file that is not there names neither the file nor the reason. */
static size_t check_files(const struct kafka_options *options,
                          void (*report)(void *context, const struct kafka_property *property,
                                         const char *message),
                          void *context)
{
    size_t mistakes = 0;
    struct error err = {0};

    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];

        if (!ends_with(property->name, ".location") || strcmp(property->value, "probe") == 0 ||
            access(property->value, R_OK) == 0)
            continue;
        error_set(&err, ERROR_CONFIG, "cannot read %s: %s", property->value, strerror(errno));
        report(context, property, err.message);
        mistakes++;
    }
    return mistakes;
}

size_t kafka_options_check(const struct kafka_options *options,
                           void (*report)(void *context, const struct kafka_property *property,
                                          const char *message),
                           void *context)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    size_t mistakes = 0;
    struct error err = {0};

    for (size_t i = 0; i < options->property_count; i++) {
        const struct kafka_property *property = &options->properties[i];
        const char *why = why_ours(property->name);

        if (!why && set_property(conf, property->name, property->value, &err) == 0)
            continue;
        if (why)
            error_set(&err, ERROR_CONFIG, "remove this property: %s", why);
        report(context, property, err.message);
        mistakes++;
    }
    rd_kafka_conf_destroy(conf);
    if (mistakes == 0 && options->property_count > 0 && check_together(options, &err) < 0) {
        mistakes = check_files(options, report, context);
        if (mistakes > 0)
            return mistakes;
        report(context, property_in(options, err.message), err.message);
        mistakes++;
    }
    return mistakes;
}
