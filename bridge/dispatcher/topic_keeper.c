#include "bridge/dispatcher/topic_keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_names.h"
#include "bridge/runtime/metrics.h"
#include "publishers/kafka_admin.h"

enum {
    LOOK_MS = 30000,
    FIRST_PAUSE_MS = 1000, /* after a look without an answer, doubled up to ... */
    MAX_PAUSE_MS = 30000,
    HOPE_MS = 200, /* until whoever waits for a look asks whether there is hope */
    NAMED = 10,    /* topics that a line of the log names */
};

struct topic_keeper {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const struct config *config; /* lock; a reference */
    uint64_t wanted;             /* lock: looks that were asked for, counted */
    uint64_t done;               /* lock: those that are over */
    bool has_answer;             /* lock: of the last look */
    struct buf answer;           /* lock: JSON of the last look */
    atomic_bool is_stopping;
    atomic_bool is_outdated;        /* the look under way is of another configuration */
    char *said[KAFKA_TOPIC_STATES]; /* thread: what the log was last told of */
    struct metric *counts[KAFKA_TOPIC_STATES];
};

/* ---- saying what was found ---- */

static bool is_worth_a_line(enum kafka_topic_state state)
{
    return state != KAFKA_TOPIC_PRESENT;
}

/* Names the topics of a state, the first of them in full. Returns how many there are, and the
 * first. */
static size_t name_topics(const struct kafka_topic_report *reports, size_t count,
                          enum kafka_topic_state state, struct buf *out_names,
                          const struct kafka_topic_report **out_first)
{
    size_t found = 0;

    *out_first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (reports[i].state != state)
            continue;
        if (!*out_first)
            *out_first = &reports[i];
        if (found++ < NAMED)
            buf_printf(out_names, "%s%s", found > 1 ? " " : "", reports[i].name);
    }
    if (found > NAMED)
        buf_printf(out_names, " and %zu more", found - NAMED);
    return found;
}

static void write_line(enum kafka_topic_state state, size_t count, const char *names,
                       const struct kafka_topic_report *first)
{
    static const char *const events[KAFKA_TOPIC_STATES] = {
        [KAFKA_TOPIC_CREATED] = "topics.created",
        [KAFKA_TOPIC_MISSING] = "topics.missing",
        [KAFKA_TOPIC_NOT_CREATED] = "topics.not_created",
        [KAFKA_TOPIC_TOO_SMALL] = "topics.too_small",
    };

    if (state == KAFKA_TOPIC_CREATED)
        log_info(events[state], log_i64("count", (int64_t)count), log_str("topics", names));
    else
        log_warn(events[state], log_i64("count", (int64_t)count), log_str("topics", names),
                 log_str("error", first->detail));
}

/* Looks come often: what was said is not said again until it changes. */
static void say(struct topic_keeper *keeper, const struct kafka_topic_report *reports, size_t count)
{
    for (int s = 0; s < KAFKA_TOPIC_STATES; s++) {
        const struct kafka_topic_report *first;
        struct buf names = {0};
        size_t found = name_topics(reports, count, (enum kafka_topic_state)s, &names, &first);
        const char *text = names.size ? names.data : "";

        metric_set(keeper->counts[s], (int64_t)found);
        if (is_worth_a_line((enum kafka_topic_state)s) && first &&
            (!keeper->said[s] || strcmp(keeper->said[s], text) != 0))
            write_line((enum kafka_topic_state)s, found, text, first);
        free(keeper->said[s]);
        keeper->said[s] = alloc_string(text);
        buf_release(&names);
    }
}

static void append_reports(const struct kafka_topic_report *reports, size_t count, struct buf *json)
{
    const char *comma = "";

    buf_append_char(json, '[');
    for (size_t i = 0; i < count; i++) {
        if (!is_worth_a_line(reports[i].state))
            continue;
        buf_printf(json, "%s{\"topic\":", comma);
        buf_append_json_string(json, text_of(reports[i].name));
        buf_printf(json, ",\"state\":\"%s\"", kafka_topic_state_name(reports[i].state));
        if (reports[i].detail[0]) {
            buf_append_string(json, ",\"detail\":");
            buf_append_json_string(json, text_of(reports[i].detail));
        }
        buf_append_char(json, '}');
        comma = ",";
    }
    buf_append_char(json, ']');
}

/* ---- looking ---- */

static int look(struct topic_keeper *keeper, const struct config *config, struct buf *json)
{
    struct topic_names names = topic_names_of(config);
    struct kafka_topic_report *reports = alloc_zeroed(names.count + 1, sizeof(*reports));
    struct error err = {0};
    int rc = 0;

    for (size_t i = 0; i < names.count; i++)
        reports[i].name = names.names[i];
    if (names.count > 0)
        rc = kafka_admin_look(&config->kafka_options, &config->kafka_topics, reports, names.count,
                              LOOK_MS, &keeper->is_outdated, &err);
    if (rc == 0) {
        say(keeper, reports, names.count);
        append_reports(reports, names.count, json);
    } else {
        log_debug("topics.not_looked_at", log_str("error", err.message));
    }
    free(reports);
    topic_names_release(&names);
    return rc;
}

/* lock held but while it looks. Returns 0 when a broker answered. */
static int look_once(struct topic_keeper *keeper)
{
    const struct config *config = config_ref(keeper->config);
    uint64_t number = keeper->wanted;
    struct buf json = {0};
    int rc;

    atomic_store(&keeper->is_outdated, false);
    pthread_mutex_unlock(&keeper->lock);
    rc = look(keeper, config, &json);
    config_free(config);
    pthread_mutex_lock(&keeper->lock);
    buf_release(&keeper->answer);
    keeper->answer = json;
    keeper->has_answer = rc == 0;
    keeper->done = number;
    pthread_cond_broadcast(&keeper->changed);
    return rc;
}

/* ---- the thread ---- */

/* lock held. Until a look is wanted, or `pause_ms` is over unless that is 0. */
static void wait_for_work(struct topic_keeper *keeper, int64_t pause_ms)
{
    struct timespec until = thread_deadline(pause_ms);

    while (!atomic_load(&keeper->is_stopping) && keeper->done == keeper->wanted) {
        if (pause_ms == 0)
            pthread_cond_wait(&keeper->changed, &keeper->lock);
        else if (pthread_cond_timedwait(&keeper->changed, &keeper->lock, &until) == ETIMEDOUT)
            return;
    }
}

static void *run(void *argument)
{
    struct topic_keeper *keeper = argument;
    int64_t pause_ms = 0;

    pthread_mutex_lock(&keeper->lock);
    while (!atomic_load(&keeper->is_stopping)) {
        if (look_once(keeper) == 0)
            pause_ms = 0;
        else if (pause_ms == 0)
            pause_ms = FIRST_PAUSE_MS;
        else
            pause_ms = pause_ms * 2 > MAX_PAUSE_MS ? MAX_PAUSE_MS : pause_ms * 2;
        wait_for_work(keeper, pause_ms);
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

/* ---- calls ---- */

void topic_keeper_reconfigure(struct topic_keeper *keeper, const struct config *config)
{
    const struct config *before;

    pthread_mutex_lock(&keeper->lock);
    before = keeper->config;
    keeper->config = config_ref(config);
    keeper->wanted++;
    atomic_store(&keeper->is_outdated, true);
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    config_free(before);
}

void topic_keeper_ask(struct topic_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->wanted++;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

bool topic_keeper_look(struct topic_keeper *keeper, int64_t timeout_ms,
                       bool (*is_hopeless)(void *context), void *context, struct buf *json)
{
    int64_t until_ms = clock_monotonic_ms(&clock_system) + timeout_ms;
    bool has_answer;
    uint64_t number;

    pthread_mutex_lock(&keeper->lock);
    number = ++keeper->wanted;
    pthread_cond_broadcast(&keeper->changed);
    while (keeper->done < number && !atomic_load(&keeper->is_stopping) && !is_hopeless(context) &&
           clock_monotonic_ms(&clock_system) < until_ms) {
        struct timespec until = thread_deadline(HOPE_MS);

        pthread_cond_timedwait(&keeper->changed, &keeper->lock, &until);
    }
    has_answer = keeper->done >= number && keeper->has_answer;
    if (has_answer)
        buf_append_text(json, buf_text(&keeper->answer));
    pthread_mutex_unlock(&keeper->lock);
    return has_answer;
}

static void make_series(struct topic_keeper *keeper, struct metrics *metrics)
{
    for (int s = 0; s < KAFKA_TOPIC_STATES; s++) {
        char labels[64] = "";

        metrics_label(labels, sizeof(labels), "state",
                      kafka_topic_state_name((enum kafka_topic_state)s));
        keeper->counts[s] =
            metrics_get(metrics, METRIC_GAUGE, "kafka_topics",
                        "Topics of the map in force, as they were last looked at.", labels);
    }
}

static void release(struct topic_keeper *keeper)
{
    config_free(keeper->config);
    buf_release(&keeper->answer);
    for (int s = 0; s < KAFKA_TOPIC_STATES; s++)
        free(keeper->said[s]);
    pthread_cond_destroy(&keeper->changed);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

struct topic_keeper *topic_keeper_start(const struct config *config, struct metrics *metrics,
                                        struct error *err)
{
    struct topic_keeper *keeper = alloc_zeroed(1, sizeof(*keeper));

    keeper->config = config_ref(config);
    pthread_mutex_init(&keeper->lock, NULL);
    thread_cond_init(&keeper->changed);
    make_series(keeper, metrics);
    if (thread_start(&keeper->thread, "topics", run, keeper, err) == 0)
        return keeper;
    release(keeper);
    return NULL;
}

void topic_keeper_stop(struct topic_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    atomic_store(&keeper->is_stopping, true);
    atomic_store(&keeper->is_outdated, true);
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

void topic_keeper_free(struct topic_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_join(keeper->thread, NULL);
    release(keeper);
}
