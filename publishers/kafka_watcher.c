#include "publishers/kafka_watcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/error.h"
#include "bridge/base/thread.h"

enum {
    PAUSE_MS = 300,     /* between two questions while no broker answers, or when asked again */
    ROUTINE_MS = 10000, /* between two questions while all is well */
    REASON_MAX = 160,
};

struct kafka_watcher {
    rd_kafka_t *producer;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int announce_fd;          /* lock; -1 once abandoned */
    bool must_ask;            /* lock */
    bool is_ending;           /* lock */
    bool is_gone;             /* lock */
    enum kafka_answer answer; /* lock: not yet taken */
    char reason[REASON_MAX];  /* lock: with answer */
};

/* lock held */
static void announce(struct kafka_watcher *watcher)
{
    uint64_t one = 1;
    ssize_t n;

    pthread_cond_broadcast(&watcher->changed);
    if (watcher->announce_fd < 0)
        return;
    n = write(watcher->announce_fd, &one, sizeof(one));
    (void)n; /* it is full: then it is readable */
}

static enum kafka_answer ask(rd_kafka_t *producer, char *out_reason)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(producer, 0, NULL, &metadata, KAFKA_PROBE_MS);

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        snprintf(out_reason, REASON_MAX, "%s", rd_kafka_err2str(code));
        return KAFKA_ANSWER_DOWN;
    }
    snprintf(out_reason, REASON_MAX, "%s",
             metadata->orig_broker_name ? metadata->orig_broker_name : "");
    rd_kafka_metadata_destroy(metadata);
    return KAFKA_ANSWER_UP;
}

/* lock held */
static void wait_ms(struct kafka_watcher *watcher, int64_t ms, bool until_asked)
{
    struct timespec until = thread_deadline(ms);

    while (!watcher->is_ending && !(until_asked && watcher->must_ask)) {
        if (pthread_cond_timedwait(&watcher->changed, &watcher->lock, &until) == ETIMEDOUT)
            return;
    }
}

/* lock held but while it asks */
static void ask_until_ending(struct kafka_watcher *watcher)
{
    while (!watcher->is_ending) {
        char reason[REASON_MAX];
        enum kafka_answer answer;

        watcher->must_ask = false;
        pthread_mutex_unlock(&watcher->lock);
        answer = ask(watcher->producer, reason);
        pthread_mutex_lock(&watcher->lock);
        watcher->answer = answer;
        snprintf(watcher->reason, sizeof(watcher->reason), "%s", reason);
        announce(watcher);
        wait_ms(watcher, PAUSE_MS, false);
        if (answer == KAFKA_ANSWER_UP)
            wait_ms(watcher, ROUTINE_MS, true);
    }
}

static void release(struct kafka_watcher *watcher)
{
    pthread_cond_destroy(&watcher->changed);
    pthread_mutex_destroy(&watcher->lock);
    free(watcher);
}

static void *watch(void *argument)
{
    struct kafka_watcher *watcher = argument;
    bool is_abandoned;

    pthread_mutex_lock(&watcher->lock);
    ask_until_ending(watcher);
    pthread_mutex_unlock(&watcher->lock);
    rd_kafka_destroy(watcher->producer);
    pthread_mutex_lock(&watcher->lock);
    watcher->is_gone = true;
    is_abandoned = watcher->announce_fd < 0;
    announce(watcher);
    pthread_mutex_unlock(&watcher->lock);
    if (is_abandoned)
        release(watcher);
    return NULL;
}

struct kafka_watcher *kafka_watcher_start(struct rd_kafka_s *producer, int announce_fd,
                                          struct error *err)
{
    struct kafka_watcher *watcher = calloc(1, sizeof(*watcher));

    if (!watcher) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    watcher->producer = producer;
    watcher->announce_fd = announce_fd;
    pthread_mutex_init(&watcher->lock, NULL);
    thread_cond_init(&watcher->changed);
    if (thread_start(&watcher->thread, "kafka-watch", watch, watcher, err) < 0) {
        release(watcher);
        return NULL;
    }
    return watcher;
}

void kafka_watcher_ask(struct kafka_watcher *watcher)
{
    pthread_mutex_lock(&watcher->lock);
    watcher->must_ask = true;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

enum kafka_answer kafka_watcher_take(struct kafka_watcher *watcher, char *out_reason,
                                     size_t reason_size)
{
    enum kafka_answer answer;

    pthread_mutex_lock(&watcher->lock);
    answer = watcher->answer;
    watcher->answer = KAFKA_ANSWER_NONE;
    if (answer != KAFKA_ANSWER_NONE)
        snprintf(out_reason, reason_size, "%s", watcher->reason);
    pthread_mutex_unlock(&watcher->lock);
    return answer;
}

void kafka_watcher_end(struct kafka_watcher *watcher)
{
    pthread_mutex_lock(&watcher->lock);
    watcher->is_ending = true;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

bool kafka_watcher_is_gone(struct kafka_watcher *watcher, int64_t timeout_ms)
{
    struct timespec until = thread_deadline(timeout_ms > 0 ? timeout_ms : 0);
    bool is_gone;

    pthread_mutex_lock(&watcher->lock);
    while (!watcher->is_gone && timeout_ms > 0 &&
           pthread_cond_timedwait(&watcher->changed, &watcher->lock, &until) != ETIMEDOUT) {
    }
    is_gone = watcher->is_gone;
    pthread_mutex_unlock(&watcher->lock);
    return is_gone;
}

void kafka_watcher_free(struct kafka_watcher *watcher)
{
    bool is_gone;

    if (!watcher)
        return;
    pthread_mutex_lock(&watcher->lock);
    is_gone = watcher->is_gone;
    watcher->announce_fd = -1;
    if (!is_gone)
        pthread_detach(watcher->thread);
    pthread_mutex_unlock(&watcher->lock);
    if (!is_gone)
        return; /* its thread frees it */
    pthread_join(watcher->thread, NULL);
    release(watcher);
}
