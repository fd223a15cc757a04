#include "publishers/kafka_flights.h"

#include <stdint.h>
#include <stdlib.h>

#include "publishers/publisher.h"

enum { FIRST_CAPACITY = 1024 };

bool kafka_flights_reserve(struct kafka_flights *flights)
{
    size_t capacity = flights->capacity ? flights->capacity * 2 : FIRST_CAPACITY;
    struct record **records;

    if (flights->count < flights->capacity)
        return true;
    records = realloc(flights->records, capacity * sizeof(struct record *));
    if (!records)
        return false;
    flights->records = records;
    flights->capacity = capacity;
    return true;
}

void kafka_flights_add(struct kafka_flights *flights, struct record *record, bool is_apart)
{
    record->outcome.offset = (int64_t)flights->count;
    record->outcome.partition = is_apart;
    flights->records[flights->count++] = record;
    flights->apart += is_apart;
}

/* Of a record that is in its place no more. */
static void forget(struct kafka_flights *flights, struct record *record)
{
    flights->apart -= (size_t)record->outcome.partition;
    record->outcome.offset = -1;
    record->outcome.partition = -1;
}

void kafka_flights_remove(struct kafka_flights *flights, struct record *record)
{
    struct record *last = flights->records[--flights->count];

    flights->records[record->outcome.offset] = last;
    last->outcome.offset = record->outcome.offset;
    forget(flights, record);
}

struct record *kafka_flights_pop(struct kafka_flights *flights)
{
    struct record *record;

    if (flights->count == 0)
        return NULL;
    record = flights->records[--flights->count];
    forget(flights, record);
    return record;
}

void kafka_flights_release(struct kafka_flights *flights)
{
    free(flights->records);
    *flights = (struct kafka_flights){0};
}
