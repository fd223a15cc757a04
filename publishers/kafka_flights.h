/*
 * The records that a producer has: so that none is forgotten when the producer ends without
 * reporting on it (TRAPS K9).
 *
 * While a record is here its outcome.offset is its place, and outcome.partition says whether it is
 * apart. Threads: the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_FLIGHTS_H
#define PUBLISHERS_KAFKA_FLIGHTS_H

#include <stdbool.h>
#include <stddef.h>

struct record;

/* Zero-initialised it is empty. */
struct kafka_flights {
    struct record **records;
    size_t count;
    size_t capacity;
    size_t apart; /* of `count`: those that no batch waits for */
};

/* Makes room for one more; false without memory. */
bool kafka_flights_reserve(struct kafka_flights *flights);

/* After kafka_flights_reserve(). Borrows the record until it is removed. */
void kafka_flights_add(struct kafka_flights *flights, struct record *record, bool is_apart);

void kafka_flights_remove(struct kafka_flights *flights, struct record *record);

/* Removes any one; NULL when it is empty. */
struct record *kafka_flights_pop(struct kafka_flights *flights);

void kafka_flights_release(struct kafka_flights *flights);

#endif
