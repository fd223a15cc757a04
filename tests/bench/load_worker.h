/*
 * One thread of the load generator: its connections, and what came back on them.
 *
 * Closed loop: every connection sends its next request when the one before is answered. Fixed rate:
 * requests are due at even intervals whatever the answers do, and one that finds no free connection
 * waits for it; its latency counts from when it was due, so that a pause of the server shows in
 * every request that it held up (no coordinated omission).
 */
#ifndef TESTS_BENCH_LOAD_WORKER_H
#define TESTS_BENCH_LOAD_WORKER_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "tests/bench/histogram.h"

struct requests;

enum { LOAD_STATUSES = 600 };

struct load_worker {
    /* set by whoever starts it */
    struct sockaddr_in address;
    struct requests *requests;
    unsigned connection_count;
    double interval_ns; /* between the requests of this thread; 0: closed loop */
    int64_t start_ns;   /* CLOCK_MONOTONIC */
    int64_t first_due_ns;
    int64_t end_ns;  /* no request is due later */
    uint64_t budget; /* at most so many requests */

    /* to be read while it runs */
    _Atomic uint64_t answered;

    /* to be read when it has ended */
    struct histogram latency;
    uint64_t statuses[LOAD_STATUSES]; /* answers by status */
    uint64_t broken;                  /* connections that ended before the answer */
    uint64_t unanswered;              /* requests given up at the end */
    uint64_t bytes;                   /* sent */
    int64_t last_ns;                  /* when the last answer came */
};

/* The body of the thread; `worker` is a struct load_worker. */
void *load_worker_run(void *worker);

#endif
