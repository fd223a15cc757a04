#include "bridge/control/control_worker.h"

#include <pthread.h>
#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/error.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"
#include "bridge/base/thread.h"
#include "bridge/control/control_request.h"

enum { MAX_WAITING = 32 };

struct control_worker {
    pthread_t thread;
    bool has_thread;
    unsigned deferred; /* requests not answered yet; the loop's */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping;          /* lock: lock */
    struct control_job *first; /* lock: lock; waiting, in order */
    struct control_job *last;  /* lock: lock */
};

/* The next job; NULL when there will be none. */
static struct control_job *next_job(struct control_worker *worker)
{
    struct control_job *job;

    pthread_mutex_lock(&worker->lock);
    while (!worker->first && !worker->is_stopping)
        pthread_cond_wait(&worker->changed, &worker->lock);
    job = worker->first;
    if (job)
        worker->first = job->next;
    pthread_mutex_unlock(&worker->lock);
    return job;
}

static void *run(void *argument)
{
    struct control_worker *worker = argument;
    struct control_job *job;

    while ((job = next_job(worker))) {
        job->run(job);
        http_resume(&job->deferred);
    }
    return NULL;
}

struct control_worker *control_worker_start(struct error *err)
{
    struct control_worker *worker = alloc_zeroed(1, sizeof(*worker));

    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    if (thread_start(&worker->thread, "control-work", run, worker, err) == 0) {
        worker->has_thread = true;
        return worker;
    }
    control_worker_free(worker);
    return NULL;
}

void control_worker_stop(struct control_worker *worker)
{
    if (!worker || !worker->has_thread)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->is_stopping = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    worker->has_thread = false;
}

void control_worker_free(struct control_worker *worker)
{
    if (!worker)
        return;
    control_worker_stop(worker);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

static void resumed(struct http_deferred *deferred)
{
    struct control_job *job = (struct control_job *)deferred;

    job->worker->deferred--;
    if (deferred->request && job->json.failed)
        http_respond_error(deferred->request, 503, "out_of_memory",
                           "There is no memory for the answer.");
    else if (deferred->request)
        http_respond(deferred->request,
                     &(struct http_response){.status = job->status, .body = buf_text(&job->json)});
    buf_release(&job->json);
}

void *control_worker_defer(struct control_worker *worker, struct http_request *request, size_t size,
                           void (*run_job)(struct control_job *self))
{
    struct control_job *job;

    if (worker->deferred == MAX_WAITING) {
        http_respond_error(request, 503, "busy", "Too many requests wait for the journal.");
        return NULL;
    }
    job = (struct control_job *)http_defer(request, size, resumed);
    worker->deferred++;
    job->worker = worker;
    job->run = run_job;
    return job;
}

void control_worker_submit(struct control_job *job)
{
    struct control_worker *worker = job->worker;
    bool is_stopping;

    pthread_mutex_lock(&worker->lock);
    is_stopping = worker->is_stopping;
    if (!is_stopping) {
        if (worker->first)
            worker->last->next = job;
        else
            worker->first = job;
        worker->last = job;
        pthread_cond_signal(&worker->changed);
    }
    pthread_mutex_unlock(&worker->lock);
    if (!is_stopping)
        return;
    control_job_fail(job, 503, "shutting_down", "The bridge stops.");
    http_resume(&job->deferred);
}

bool control_job_is_cancelled(const struct control_job *job)
{
    bool is_stopping;

    pthread_mutex_lock(&job->worker->lock);
    is_stopping = job->worker->is_stopping;
    pthread_mutex_unlock(&job->worker->lock);
    return is_stopping;
}

void control_job_fail(struct control_job *job, int status, const char *code, const char *message)
{
    job->status = status;
    buf_clear(&job->json);
    control_append_error(&job->json, code, message);
}
