/*
 * Threads with a name, all signals blocked (they belong to the main thread) and an error that says
 * what failed; conditions whose timed waits go by the monotonic clock.
 */
#ifndef BRIDGE_BASE_THREAD_H
#define BRIDGE_BASE_THREAD_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

struct error;

/* Starts `run(argument)`. `name` is cut to 15 bytes, the kernel's limit. The caller joins with
 * pthread_join(). */
int thread_start(pthread_t *out_thread, const char *name, void *(*run)(void *argument),
                 void *argument, struct error *err);

/* A condition for pthread_cond_timedwait() until a thread_deadline(). */
void thread_cond_init(pthread_cond_t *cond);

/* `ms` from now, 0 or more. */
struct timespec thread_deadline(int64_t ms);

#endif
