/*
 * Threads
 *   dispatcher  submit(), serve(), destroy(): delivery reports wait in `queue`, whose eventfd
 * librdkafka writes to watcher     finds out whether a broker answers, and destroys producers that
 * were replaced librdkafka  log_line() alone
 */
#include "publishers/kafka_publisher.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "publishers/kafka_errors.h"
#include "publishers/kafka_options.h"
#include "publishers/publisher.h"
#include "schemas/envelope.h"

enum {
    BUCKETS = 1024,
    MAX_TOPICS = 10000, /* a topic lives as long as its producer (TRAPS K19) */
    REPORTS_PER_TURN = 10000,
    PROBE_MS = 1000,      /* how long a broker may take to answer the watcher */
    PROBE_PAUSE_MS = 500, /* between two probes while no broker answers */
    SUSPECT_MS =
        3000, /* no report for so long while records wait: ask whether the broker is there */
    STALL_MS = 300000, /* nothing moves although the broker answers: a new producer (TRAPS K17) */
    PURGE_AFTER_MS = 5000,   /* what an ended producer may take to report by itself */
    REBUILD_PAUSE_MS = 1000, /* doubled up to the next */
    MAX_REBUILD_PAUSE_MS = 30000,
    LOG_PAUSE_S = 20,
};

enum phase { PHASE_RUNNING, PHASE_ENDING, PHASE_ENDED };
enum link { LINK_UNKNOWN, LINK_UP, LINK_DOWN };

struct topic {
    struct topic *next;
    rd_kafka_topic_t *handle;
    char name[];
};

struct kafka {
    struct publisher base;
    const struct kafka_options *options;
    const struct clock *clock;
    rd_kafka_t *producer;    /* written by the dispatcher under `lock`; NULL in PHASE_ENDED */
    rd_kafka_queue_t *queue; /* of the producer's events */
    enum phase phase;
    struct topic *topics[BUCKETS];
    size_t topic_count;
    size_t unsettled; /* records that the producer has */
    bool is_busy;     /* submit() answered SUBMIT_BUSY: on_ready() is owed */
    int64_t last_report_ms;
    int64_t purge_at_ms;
    int64_t rebuild_at_ms;
    int64_t rebuild_pause_ms;
    pthread_t watcher;
    bool has_watcher;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping;     /* lock */
    bool must_probe;      /* lock */
    rd_kafka_t *replaced; /* lock: to be destroyed by the watcher */
    _Atomic enum link link;
};

static int64_t now_ms(const struct kafka *kafka)
{
    return clock_monotonic_ms(kafka->clock);
}

/* A broker that is away makes librdkafka say so every second. */
static void log_line(const rd_kafka_t *producer, int level, const char *facility, const char *text)
{
    static _Atomic int64_t next_s;
    int64_t now_s = (int64_t)time(NULL);
    int64_t due_s = atomic_load(&next_s);

    (void)producer;
    if (level > 4 || now_s < due_s ||
        !atomic_compare_exchange_strong(&next_s, &due_s, now_s + LOG_PAUSE_S))
        return;
    log_warn("kafka.client", log_str("facility", facility), log_str("message", text));
}

static void probe_soon(struct kafka *kafka)
{
    pthread_mutex_lock(&kafka->lock);
    kafka->must_probe = true;
    pthread_cond_signal(&kafka->changed);
    pthread_mutex_unlock(&kafka->lock);
}

static void set_link(struct kafka *kafka, enum link link, const char *reason)
{
    if (atomic_exchange(&kafka->link, link) != link && link != LINK_UNKNOWN)
        kafka->base.events.on_state(kafka->base.events.context, link == LINK_UP, reason);
}

/* ---- watcher ---- */

/* Asking for the topics that we have also makes librdkafka notice those that have appeared (TRAPS
 * K6). */
static void probe(struct kafka *kafka, rd_kafka_t *producer)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(producer, 0, NULL, &metadata, PROBE_MS);
    char broker[128];

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        set_link(kafka, LINK_DOWN, rd_kafka_err2str(code));
        return;
    }
    snprintf(broker, sizeof(broker), "%s",
             metadata->orig_broker_name ? metadata->orig_broker_name : "");
    rd_kafka_metadata_destroy(metadata);
    set_link(kafka, LINK_UP, broker);
}

/* lock held. Waits for something to do. */
static void wait_for_change(struct kafka *kafka)
{
    struct timespec until;
    bool ask_again = atomic_load(&kafka->link) != LINK_UP;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)PROBE_PAUSE_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!kafka->is_stopping && !kafka->must_probe && !kafka->replaced) {
        if (!ask_again)
            pthread_cond_wait(&kafka->changed, &kafka->lock);
        else if (pthread_cond_timedwait(&kafka->changed, &kafka->lock, &until) != 0)
            return;
    }
}

static void *watch(void *argument)
{
    struct kafka *kafka = argument;

    pthread_mutex_lock(&kafka->lock);
    while (!kafka->is_stopping) {
        rd_kafka_t *replaced = kafka->replaced;
        rd_kafka_t *producer = kafka->producer;

        kafka->replaced = NULL;
        kafka->must_probe = false;
        pthread_mutex_unlock(&kafka->lock);
        if (replaced)
            rd_kafka_destroy(replaced);
        if (producer)
            probe(kafka, producer);
        pthread_mutex_lock(&kafka->lock);
        wait_for_change(kafka);
    }
    pthread_mutex_unlock(&kafka->lock);
    return NULL;
}

/* ---- producers come and go ---- */

static int start_producer(struct kafka *kafka, struct error *err)
{
    rd_kafka_conf_t *conf = kafka_options_conf(kafka->options, err);
    uint64_t one = 1;
    rd_kafka_t *producer;
    char message[256];

    if (!conf)
        return -1;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_conf_set_log_cb(conf, log_line);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, message, sizeof(message));
    if (!producer) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, ERROR_CONFIG, "%s", message);
    }
    kafka->queue = rd_kafka_queue_get_main(producer);
    rd_kafka_queue_io_event_enable(kafka->queue, kafka->base.fd, &one, sizeof(one));
    kafka->phase = PHASE_RUNNING;
    kafka->last_report_ms = now_ms(kafka);
    pthread_mutex_lock(&kafka->lock);
    kafka->producer = producer;
    pthread_cond_signal(&kafka->changed);
    pthread_mutex_unlock(&kafka->lock);
    return 0;
}

static void forget_topics(struct kafka *kafka)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (kafka->topics[i]) {
            struct topic *next = kafka->topics[i]->next;

            rd_kafka_topic_destroy(kafka->topics[i]->handle);
            free(kafka->topics[i]);
            kafka->topics[i] = next;
        }
    }
    kafka->topic_count = 0;
}

/* Returns owned the producer that was in use, NULL when there is none. */
static rd_kafka_t *take_producer(struct kafka *kafka)
{
    rd_kafka_t *producer = kafka->producer;

    if (!producer)
        return NULL;
    forget_topics(kafka);
    rd_kafka_queue_io_event_enable(kafka->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(kafka->queue);
    kafka->queue = NULL;
    pthread_mutex_lock(&kafka->lock);
    kafka->producer = NULL;
    pthread_mutex_unlock(&kafka->lock);
    return producer;
}

/* The producer is of no use any more: it takes nothing and reports what it has. */
static void end_producer(struct kafka *kafka, const char *why)
{
    if (kafka->phase != PHASE_RUNNING)
        return;
    kafka->phase = PHASE_ENDING;
    kafka->is_busy = true;
    kafka->purge_at_ms = now_ms(kafka) + PURGE_AFTER_MS;
    log_warn("kafka.producer_replaced", log_str("error", why),
             log_i64("unsettled", (int64_t)kafka->unsettled),
             log_str("action", "a new producer sends again what was not acknowledged"));
}

static void bury_producer(struct kafka *kafka)
{
    rd_kafka_t *producer = take_producer(kafka);

    kafka->phase = PHASE_ENDED;
    kafka->rebuild_pause_ms = kafka->rebuild_pause_ms == 0 ? REBUILD_PAUSE_MS
                              : kafka->rebuild_pause_ms * 2 > MAX_REBUILD_PAUSE_MS
                                  ? MAX_REBUILD_PAUSE_MS
                                  : kafka->rebuild_pause_ms * 2;
    kafka->rebuild_at_ms = now_ms(kafka) + kafka->rebuild_pause_ms - REBUILD_PAUSE_MS;
    pthread_mutex_lock(&kafka->lock);
    kafka->replaced = producer;
    pthread_cond_signal(&kafka->changed);
    pthread_mutex_unlock(&kafka->lock);
}

static void rebuild(struct kafka *kafka)
{
    struct error err;

    if (start_producer(kafka, &err) == 0)
        return;
    log_error("kafka.no_producer", log_str("error", err.message));
    kafka->rebuild_at_ms = now_ms(kafka) + MAX_REBUILD_PAUSE_MS;
}

/* ---- records ---- */

static rd_kafka_topic_t *find_topic(struct kafka *kafka, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    struct topic *topic;
    size_t size;

    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (topic = kafka->topics[hash % BUCKETS]; topic; topic = topic->next) {
        if (strcmp(topic->name, name) == 0)
            return topic->handle;
    }
    if (kafka->topic_count == MAX_TOPICS)
        return NULL;
    size = strlen(name) + 1;
    topic = calloc(1, sizeof(*topic) + size);
    if (!topic)
        return NULL;
    memcpy(topic->name, name, size);
    topic->handle = rd_kafka_topic_new(kafka->producer, name, NULL);
    if (!topic->handle) {
        free(topic);
        return NULL;
    }
    topic->next = kafka->topics[hash % BUCKETS];
    kafka->topics[hash % BUCKETS] = topic;
    kafka->topic_count++;
    return topic->handle;
}

static void add_header(rd_kafka_headers_t *headers, const char *name, struct text value)
{
    if (value.data)
        rd_kafka_header_add(headers, name, -1, value.data, (ssize_t)value.size);
}

static rd_kafka_headers_t *make_headers(const struct record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(ENVELOPE_MAX + 4);
    struct envelope envelope;

    add_header(headers, "content-type", text_of(format_content_type(record->format, false)));
    if (format_is_binary_mode(record->format)) {
        envelope_build(&envelope, record->event, record->is_replay);
        for (size_t i = 0; i < envelope.count; i++)
            add_header(headers, envelope.attributes[i].kafka_name, envelope.attributes[i].value);
    }
    add_header(headers, "closebridge_reason", text_of(record->dead_reason));
    add_header(headers, "closebridge_publisher", text_of(record->dead_publisher));
    add_header(headers, "closebridge_topic", text_of(record->dead_topic));
    return headers;
}

static void settle_as(struct record *record, int code)
{
    record->outcome.as = kafka_error_class(code, &record->outcome.reason);
}

static enum submit_result refused(struct kafka *kafka, struct record *record,
                                  rd_kafka_resp_err_t code)
{
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        end_producer(kafka, "a fatal error of the producer");
        return SUBMIT_BUSY;
    }
    settle_as(record, code);
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL || record->outcome.as == SETTLED_RETRY) {
        kafka->is_busy = true;
        return SUBMIT_BUSY;
    }
    if (record->outcome.as == SETTLED_DESTINATION_FAULT)
        probe_soon(kafka);
    return SUBMIT_SETTLED;
}

static rd_kafka_resp_err_t produce(struct kafka *kafka, rd_kafka_topic_t *topic,
                                   struct record *record)
{
    rd_kafka_headers_t *headers = make_headers(record);
    /* The value is not copied: it lies in the record's event until the report has come. */
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {(void *)(uintptr_t)record->value.data, record->value.size}},
        {.vtype = RD_KAFKA_VTYPE_KEY,
         .u.mem = {(void *)(uintptr_t)record->key.data, record->key.size}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = record->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = record},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error =
        rd_kafka_produceva(kafka->producer, parts, sizeof(parts) / sizeof(parts[0]));
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_headers_destroy(headers); /* taken only on success */
    rd_kafka_error_destroy(error);
    return code;
}

static enum submit_result submit(struct publisher *self, struct record *record)
{
    struct kafka *kafka = (struct kafka *)self;
    rd_kafka_topic_t *topic;
    rd_kafka_resp_err_t code;

    if (kafka->phase != PHASE_RUNNING) {
        kafka->is_busy = true;
        return SUBMIT_BUSY;
    }
    topic = find_topic(kafka, record->topic);
    if (!topic) {
        record->outcome.as = SETTLED_DESTINATION_FAULT;
        record->outcome.reason = "too_many_topics";
        return SUBMIT_SETTLED;
    }
    code = produce(kafka, topic, record);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return refused(kafka, record, code);
    if (kafka->unsettled++ == 0)
        kafka->last_report_ms = now_ms(kafka);
    return SUBMIT_ACCEPTED;
}

/* ---- reports ---- */

static void report(struct kafka *kafka, const rd_kafka_message_t *message)
{
    struct record *record = message->_private;

    kafka->unsettled--;
    settle_as(record, message->err);
    record->outcome.partition = message->partition;
    record->outcome.offset = message->offset;
    if (record->outcome.as == SETTLED_DELIVERED) {
        kafka->rebuild_pause_ms = 0;
        if (atomic_load(&kafka->link) != LINK_UP)
            set_link(kafka, LINK_UP, "acknowledges records");
    } else if (record->outcome.as == SETTLED_DESTINATION_FAULT) {
        probe_soon(kafka);
    } else if (record->outcome.as == SETTLED_RETRY && kafka->phase == PHASE_RUNNING) {
        probe_soon(kafka);
    }
    kafka->base.events.on_settled(kafka->base.events.context, record);
}

static void take_reports(struct kafka *kafka, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;

    kafka->last_report_ms = now_ms(kafka);
    while ((message = rd_kafka_event_message_next(event)))
        report(kafka, message);
}

static void take_error(struct kafka *kafka, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    char message[256];

    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(kafka->producer, message, sizeof(message));
        end_producer(kafka, message);
    } else if (atomic_load(&kafka->link) == LINK_UP) {
        probe_soon(kafka); /* a connection broke: is there another broker? */
    }
}

static void take_events(struct kafka *kafka)
{
    rd_kafka_event_t *event;
    int count = 0;

    while (kafka->queue && count++ < REPORTS_PER_TURN &&
           (event = rd_kafka_queue_poll(kafka->queue, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            take_reports(kafka, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            take_error(kafka, event);
        rd_kafka_event_destroy(event);
    }
}

/* Records wait and nothing comes back. */
static void watch_progress(struct kafka *kafka)
{
    int64_t silent_ms = now_ms(kafka) - kafka->last_report_ms;

    if (kafka->unsettled == 0 || silent_ms < SUSPECT_MS)
        return;
    if (atomic_load(&kafka->link) == LINK_UP && silent_ms >= STALL_MS)
        end_producer(kafka, "no progress although a broker answers");
    else
        probe_soon(kafka);
}

static void move_phase(struct kafka *kafka)
{
    switch (kafka->phase) {
    case PHASE_RUNNING:
        watch_progress(kafka);
        break;
    case PHASE_ENDING:
        if (kafka->unsettled == 0) {
            bury_producer(kafka);
        } else if (now_ms(kafka) >= kafka->purge_at_ms) {
            rd_kafka_purge(kafka->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            kafka->purge_at_ms = now_ms(kafka) + PURGE_AFTER_MS;
        }
        break;
    case PHASE_ENDED:
        if (now_ms(kafka) >= kafka->rebuild_at_ms)
            rebuild(kafka);
        break;
    }
}

static void serve(struct publisher *self)
{
    struct kafka *kafka = (struct kafka *)self;
    uint64_t count;
    ssize_t n = read(kafka->base.fd, &count, sizeof(count));

    (void)n; /* nothing in it: called by the timer */
    take_events(kafka);
    move_phase(kafka);
    if (kafka->is_busy && kafka->phase == PHASE_RUNNING) {
        kafka->is_busy = false;
        kafka->base.events.on_ready(kafka->base.events.context);
    }
}

/* ---- life ---- */

static void stop_watcher(struct kafka *kafka)
{
    if (!kafka->has_watcher)
        return;
    pthread_mutex_lock(&kafka->lock);
    kafka->is_stopping = true;
    pthread_cond_signal(&kafka->changed);
    pthread_mutex_unlock(&kafka->lock);
    pthread_join(kafka->watcher, NULL);
    if (kafka->replaced)
        rd_kafka_destroy(kafka->replaced);
}

static void destroy(struct publisher *self, int64_t timeout_ms)
{
    struct kafka *kafka = (struct kafka *)self;
    rd_kafka_t *producer;

    if (!kafka)
        return;
    stop_watcher(kafka);
    producer = take_producer(kafka);
    if (producer) {
        rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_flush(producer, timeout_ms > 100 ? 100 : (int)timeout_ms);
        rd_kafka_destroy(producer);
    }
    if (kafka->base.fd >= 0)
        close(kafka->base.fd);
    pthread_cond_destroy(&kafka->changed);
    pthread_mutex_destroy(&kafka->lock);
    free(kafka);
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct publisher *create(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err)
{
    struct kafka *kafka = calloc(1, sizeof(*kafka));
    sigset_t all;
    sigset_t old;
    int rc;

    if (!kafka) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    kafka->base = (struct publisher){&kafka_publisher_ops, events, -1};
    kafka->options = options;
    kafka->clock = clock;
    pthread_mutex_init(&kafka->lock, NULL);
    init_condition(&kafka->changed);
    kafka->base.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sigfillset(&all); /* librdkafka's threads inherit the mask (TRAPS K20) */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = start_producer(kafka, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0 && thread_start(&kafka->watcher, "kafka-watch", watch, kafka, err) == 0) {
        kafka->has_watcher = true;
        return &kafka->base;
    }
    destroy(&kafka->base, 0);
    return NULL;
}

const struct publisher_ops kafka_publisher_ops = {
    .name = "kafka",
    .create = create,
    .submit = submit,
    .serve = serve,
    .destroy = destroy,
};
