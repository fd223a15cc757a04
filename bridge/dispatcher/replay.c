#include "bridge/dispatcher/replay.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/dispatcher/replay_part.h"

struct replay {
    struct replay_options options;
    struct replay_source *source; /* made with the first replay */
    struct replay_job *job;
    pthread_mutex_t lock;
    struct replay_request request; /* lock: lock */
    bool is_asked;                 /* lock: lock; `request` waits to be begun */
    bool is_stop_asked;            /* lock: lock */
    bool is_ended;                 /* lock: lock */
    bool has_job;                  /* lock: lock; one is asked for, runs, or leaves */
    struct replay_progress shown;  /* lock: lock */
};

struct replay *replay_open(const struct replay_options *options)
{
    struct replay *replay = alloc_zeroed(1, sizeof(*replay));

    replay->options = *options;
    pthread_mutex_init(&replay->lock, NULL);
    return replay;
}

/* ---- from other threads ---- */

static enum replay_answer accept(struct replay *replay, const struct replay_request *request,
                                 struct error *err)
{
    if (replay->is_ended)
        return REPLAY_IS_STOPPING;
    if (replay->shown.state == REPLAY_RUNS)
        return REPLAY_IS_BUSY;
    if (replay->has_job)
        return REPLAY_IS_LEAVING;
    if (!replay->source)
        replay->source = replay_source_open(replay->options.journal, replay->options.wakeup, err);
    if (!replay->source)
        return REPLAY_CANNOT_READ;
    replay->request = *request;
    replay->is_asked = replay->has_job = true;
    replay->is_stop_asked = false; /* which may have come for the one before, when that was over */
    replay->shown = (struct replay_progress){
        .state = REPLAY_RUNS,
        .id = clock_wall_ms(replay->options.clock),
        .request = *request,
    };
    return REPLAY_STARTED;
}

enum replay_answer replay_start(struct replay *replay, const struct replay_request *request,
                                struct error *err)
{
    enum replay_answer answer;

    pthread_mutex_lock(&replay->lock);
    answer = accept(replay, request, err);
    pthread_mutex_unlock(&replay->lock);
    wakeup_signal(replay->options.wakeup);
    return answer;
}

bool replay_stop(struct replay *replay)
{
    bool runs;

    pthread_mutex_lock(&replay->lock);
    runs = replay->shown.state == REPLAY_RUNS;
    if (runs) {
        replay->is_stop_asked = true;
        replay->shown.state = REPLAY_STOPPED;
        replay->shown.ended_ms = clock_wall_ms(replay->options.clock);
    }
    pthread_mutex_unlock(&replay->lock);
    wakeup_signal(replay->options.wakeup);
    return runs;
}

void replay_progress(struct replay *replay, struct replay_progress *out_progress)
{
    pthread_mutex_lock(&replay->lock);
    *out_progress = replay->shown;
    pthread_mutex_unlock(&replay->lock);
}

/* ---- a replay from its begin to its end ---- */

static void begin(struct replay *replay, const struct replay_request *request)
{
    struct replay_job *job = alloc_zeroed(1, sizeof(*job));

    job->options = &replay->options;
    job->source = replay->source;
    job->request = *request;
    replay->job = job;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        job->parts[p].job = job;
        job->parts[p].publisher = (enum publisher_index)p;
        if (request->publishers[p])
            replay_part_begin(&job->parts[p]);
    }
    log_info("replay.started", log_i64("first", (int64_t)request->first),
             log_i64("last", (int64_t)request->last),
             log_str("dry_run", request->is_dry_run ? "true" : "false"));
}

static void stop(struct replay_job *job)
{
    job->is_stopped = true;
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        replay_part_stop(&job->parts[p]);
}

/* Begins and stops what was asked for. */
static void obey(struct replay *replay)
{
    struct replay_request request = {0};
    bool is_asked;
    bool is_stop_asked;

    pthread_mutex_lock(&replay->lock);
    is_asked = replay->is_asked;
    is_stop_asked = replay->is_stop_asked;
    if (is_asked)
        request = replay->request;
    replay->is_asked = replay->is_stop_asked = false;
    pthread_mutex_unlock(&replay->lock);
    if (is_asked)
        begin(replay, &request);
    if (is_stop_asked && replay->job)
        stop(replay->job);
}

static bool has_anything_left(const struct replay_job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (job->parts[p].is_asked || job->parts[p].on_the_way > 0)
            return true;
    }
    return false;
}

static bool is_done(const struct replay_job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!replay_part_is_done(&job->parts[p]))
            return false;
    }
    return true;
}

static void log_end(const struct replay_job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct replay_part *part = &job->parts[p];

        if (part->lane)
            log_info("replay.ended", log_str("publisher", lane_name(part->lane)),
                     log_str("result", job->is_stopped ? "stopped" : "done"),
                     log_i64("events", (int64_t)part->counts.events),
                     log_i64("delivered", (int64_t)part->counts.delivered),
                     log_i64("failed", (int64_t)part->counts.failed),
                     log_i64("missing", (int64_t)part->counts.missing));
    }
}

/* Shows the progress to other threads. */
static void show(struct replay *replay)
{
    struct replay_job *job = replay->job;
    struct replay_progress *shown = &replay->shown;

    pthread_mutex_lock(&replay->lock);
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct replay_part *part = &job->parts[p];

        part->counts.is_done = replay_part_is_done(part);
        part->counts.is_down = part->lane && lane_is_down(part->lane, false);
        shown->counts[p] = part->counts;
    }
    if (job->faults_have_changed) {
        memcpy(shown->faults, job->faults, sizeof(shown->faults));
        shown->fault_count = job->fault_count;
        shown->unlisted = job->unlisted;
        job->faults_have_changed = false;
    }
    if (job->is_over && shown->state == REPLAY_RUNS) {
        shown->state = job->is_stopped ? REPLAY_STOPPED : REPLAY_DONE;
        shown->ended_ms = clock_wall_ms(replay->options.clock);
    }
    replay->has_job = !job->is_over || has_anything_left(job);
    pthread_mutex_unlock(&replay->lock);
}

static void free_job(struct replay_job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        replay_part_release(&job->parts[p]);
    free(job);
}

/* Ends what is over, shows it, and lets it go once nothing refers to it. */
static void conclude(struct replay *replay)
{
    struct replay_job *job = replay->job;

    if (!job->is_over && (job->is_stopped || is_done(job))) {
        job->is_over = true;
        log_end(job);
    }
    show(replay);
    if (!job->is_over || has_anything_left(job))
        return;
    replay->job = NULL;
    free_job(job);
}

static void take_slices(const struct replay_job *job)
{
    struct mailbox_node *node = replay_source_take(job->source);

    while (node) {
        struct replay_slice *slice = container_of(node, struct replay_slice, node);

        node = node->next;
        replay_part_take_slice(container_of(slice, struct replay_part, slice));
    }
}

/* True when it could go on at once. */
static bool run_part(struct replay_part *part)
{
    if (!part->lane || part->job->is_stopped)
        return false;
    if (!lane_is_configured(part->lane) && !replay_part_is_done(part)) {
        log_warn("replay.publisher_removed", log_str("publisher", lane_name(part->lane)),
                 log_str("action", "the replay is stopped"));
        stop(part->job);
        return false;
    }
    return replay_part_run(part);
}

bool replay_run(struct replay *replay)
{
    bool wants_more = false;

    obey(replay);
    if (!replay->job)
        return true;
    take_slices(replay->job);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        wants_more = run_part(&replay->job->parts[p]) || wants_more;
    conclude(replay);
    return !wants_more;
}

void replay_end(struct replay *replay)
{
    pthread_mutex_lock(&replay->lock);
    replay->is_ended = true;
    replay->is_stop_asked = true;
    pthread_mutex_unlock(&replay->lock);
    replay_source_stop(replay->source);
    replay_run(replay);
}

void replay_close(struct replay *replay)
{
    if (!replay)
        return;
    if (replay->job)
        free_job(replay->job);
    replay_source_close(replay->source);
    pthread_mutex_destroy(&replay->lock);
    free(replay);
}
