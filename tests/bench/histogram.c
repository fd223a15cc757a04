#include "tests/bench/histogram.h"

#include <stddef.h>

enum { PRECISION_BITS = 6 };

static size_t slot_of(uint64_t value)
{
    unsigned shift;

    if (value < UINT64_C(2) << PRECISION_BITS)
        return (size_t)value;
    shift = 63u - (unsigned)__builtin_clzll(value) - PRECISION_BITS;
    return ((size_t)shift << PRECISION_BITS) + (size_t)(value >> shift);
}

/* The largest value that counts in the slot. */
static int64_t top_of(size_t slot)
{
    unsigned shift = (unsigned)(slot >> PRECISION_BITS);

    if (shift < 2)
        return (int64_t)slot;
    shift--;
    return (int64_t)((((uint64_t)(slot - ((size_t)shift << PRECISION_BITS)) + 1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    histogram->slots[slot_of((uint64_t)ns)]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_SLOTS; i++)
        into->slots[i] += from->slots[i];
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

int64_t histogram_at(const struct histogram *histogram, double percent)
{
    double wanted = (double)histogram->count * percent / 100;
    uint64_t seen = 0;

    for (size_t i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += histogram->slots[i];
        if (seen > 0 && (double)seen >= wanted)
            return top_of(i) < histogram->max_ns ? top_of(i) : histogram->max_ns;
    }
    return histogram->max_ns;
}

void histogram_write(const struct histogram *histogram, FILE *out)
{
    static const struct {
        const char *name;
        double percent;
    } points[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}};

    fputc('{', out);
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
        fprintf(out, "\"%s\": %.1f, ", points[i].name,
                (double)histogram_at(histogram, points[i].percent) / 1000);
    fprintf(out, "\"max\": %.1f}", (double)histogram->max_ns / 1000);
}
