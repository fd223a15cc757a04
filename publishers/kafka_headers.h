/*
 * Headers of Kafka messages, used again.
 *
 * librdkafka has each header in an allocation of its own: to make and free a dozen of them for
 * every record was the largest part of what a record costs the dispatcher. The headers of most
 * events have the same names and lengths, so those of a message that was reported on are kept, and
 * the next one's values are written into them. Threads: the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_HEADERS_H
#define PUBLISHERS_KAFKA_HEADERS_H

#include <stddef.h>

#include "bridge/base/text.h"
#include "schemas/envelope.h"

struct rd_kafka_headers_s;
struct rd_kafka_message_s;

enum {
    KAFKA_HEADERS_MAX = ENVELOPE_MAX + 5, /* of one message: the envelope's and our own */
    KAFKA_HEADERS_KEPT = 1024,
};

/* What a message is to have, in this order. */
struct kafka_header_list {
    size_t count;
    struct {
        const char *name;
        struct text value;
    } headers[KAFKA_HEADERS_MAX];
};

/* Zeroed at first. */
struct kafka_headers {
    size_t count;
    struct rd_kafka_headers_s *kept[KAFKA_HEADERS_KEPT]; /* the latest last */
};

/* Returns owned (rd_kafka_headers_destroy), NULL without memory. */
struct rd_kafka_headers_s *kafka_headers_make(struct kafka_headers *headers,
                                              const struct kafka_header_list *list);

/* Takes the headers of a message that was reported on. */
void kafka_headers_keep(struct kafka_headers *headers, const struct rd_kafka_message_s *message);

void kafka_headers_release(struct kafka_headers *headers);

#endif
