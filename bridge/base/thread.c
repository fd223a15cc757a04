#include "bridge/base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/error.h"

int thread_start(pthread_t *out_thread, const char *name, void *(*run)(void *argument),
                 void *argument, struct error *err)
{
    char short_name[16];
    sigset_t all;
    sigset_t old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(out_thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return error_set(err, ERROR_FATAL, "cannot start the thread %s: %s", name, strerror(rc));
    snprintf(short_name, sizeof(short_name), "%s", name);
    pthread_setname_np(*out_thread, short_name);
    return 0;
}

void thread_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec thread_deadline(int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}
