/*
 * Where the latest records of a publisher went: topic, partition and offset, for people who ask
 * where their event is. In memory, bounded, the oldest go; nothing is allocated for a record.
 *
 * Threads: any.
 */
#ifndef BRIDGE_DISPATCHER_OUTCOMES_H
#define BRIDGE_DISPATCHER_OUTCOMES_H

#include <stdint.h>

#include "bridge/base/text.h"

struct outcomes; /* opaque: defined in outcomes.c */

struct outcome {
    uint64_t seq; /* of the event */
    int64_t at_ms;
    int64_t offset;    /* -1: unknown */
    int32_t partition; /* -1: unknown */
    struct text topic;
};

/* Returns owned (outcomes_free), never NULL. */
struct outcomes *outcomes_new(void);
void outcomes_free(struct outcomes *outcomes);

void outcomes_add(struct outcomes *outcomes, const struct outcome *outcome);

/* Calls `visit` for each that is kept, the oldest first. */
void outcomes_visit(struct outcomes *outcomes,
                    void (*visit)(void *context, const struct outcome *outcome), void *context);

#endif
