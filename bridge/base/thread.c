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
