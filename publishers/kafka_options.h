/*
 * From our options to librdkafka's configuration: our defaults, then the user's properties, then
 * what the promise rests on.
 *
 * Any thread.
 */
#ifndef PUBLISHERS_KAFKA_OPTIONS_H
#define PUBLISHERS_KAFKA_OPTIONS_H

#include <stdint.h>

struct error;
struct kafka_options;
struct rd_kafka_conf_s;

/*
 * Returns owned (rd_kafka_new takes it, else rd_kafka_conf_destroy), NULL on failure. `batch_bytes`
 * replaces batch.size unless it is 0.
 */
struct rd_kafka_conf_s *kafka_options_conf(const struct kafka_options *options, int64_t batch_bytes,
                                           struct error *err);

#endif
