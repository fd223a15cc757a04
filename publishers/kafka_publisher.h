/*
 * Kafka, through librdkafka: an idempotent producer with acks=all.
 *
 * Values are not copied: librdkafka sends from the event's memory, which the record keeps alive
 * until it is settled. A producer that became unusable (a fatal error, TRAPS K5) is replaced by a
 * new one.
 */
#ifndef PUBLISHERS_KAFKA_PUBLISHER_H
#define PUBLISHERS_KAFKA_PUBLISHER_H

#include <stddef.h>
#include <stdint.h>

struct error;
struct publisher_ops;

struct kafka_property {
    char *name;
    char *value;
    int line; /* of the configuration file, for messages */
};

struct kafka_options {
    struct kafka_property *properties; /* as configured: any property of librdkafka */
    size_t property_count;
    uint64_t files;             /* another number when a file that a property names was written */
    int64_t message_timeout_ms; /* 0: infinite (the journal owns time); broker mode: below
                                   acknowledge_timeout */
    uint64_t max_message_bytes; /* our default for message.max.bytes: max_body + 64 KiB */
};

extern const struct publisher_ops kafka_publisher_ops;

/*
 * Checks all properties without connecting: unknown names, bad values, those that are ours alone
 * (acks, enable.idempotence, message.timeout.ms). Calls `report` once for each mistake, with the
 * property. Returns the number of mistakes.
 */
size_t kafka_options_check(const struct kafka_options *options,
                           void (*report)(void *context, const struct kafka_property *property,
                                          const char *message),
                           void *context);

#endif
