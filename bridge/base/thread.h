/*
 * Threads with a name, all signals blocked (they belong to the main thread) and an error that says
 * what failed.
 */
#ifndef BRIDGE_BASE_THREAD_H
#define BRIDGE_BASE_THREAD_H

#include <pthread.h>

struct error;

/* Starts `run(argument)`. `name` is cut to 15 bytes, the kernel's limit. The caller joins with
 * pthread_join(). */
int thread_start(pthread_t *out_thread, const char *name, void *(*run)(void *argument),
                 void *argument, struct error *err);

#endif
