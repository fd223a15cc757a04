/*
 * A histogram of durations in the manner of HdrHistogram: constant memory, every value kept to one
 * part in 64, whatever its size.
 */
#ifndef TESTS_BENCH_HISTOGRAM_H
#define TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum { HISTOGRAM_SLOTS = 58 * 64 + 64 };

/* Zero-initialised it is empty. */
struct histogram {
    uint64_t slots[HISTOGRAM_SLOTS];
    uint64_t count;
    int64_t max_ns;
};

/* Below zero counts as zero. */
void histogram_add(struct histogram *histogram, int64_t ns);

void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that `percent` of all do not exceed; 0 when it is empty. */
int64_t histogram_at(const struct histogram *histogram, double percent);

/* Writes a JSON object of microseconds: p50, p90, p99, p99.9 and max. */
void histogram_write(const struct histogram *histogram, FILE *out);

#endif
