/*
 * From our options to librdkafka's configuration.
 */
#ifndef PUBLISHERS_KAFKA_OPTIONS_H
#define PUBLISHERS_KAFKA_OPTIONS_H

struct error;
struct kafka_options;

/* Returns owned a `rd_kafka_conf_t *` (rd_kafka_new takes it), NULL on failure. A void pointer
 * keeps librdkafka's header out. */
void *kafka_options_conf(const struct kafka_options *options, struct error *err);

#endif
