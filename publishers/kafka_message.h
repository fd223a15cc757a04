/*
 * From a record to a Kafka message: key, value, timestamp and the headers of CloudEvents' binary
 * mode (DESIGN section 6).
 */
#ifndef PUBLISHERS_KAFKA_MESSAGE_H
#define PUBLISHERS_KAFKA_MESSAGE_H

struct kafka_headers;
struct rd_kafka_s;
struct rd_kafka_topic_s;
struct record;

/*
 * Queues the record; it becomes the opaque of its delivery report. Borrows the value's bytes until
 * that report, or until the producer is destroyed; copies the rest. Returns a rd_kafka_resp_err_t.
 */
int kafka_message_produce(struct rd_kafka_s *producer, struct rd_kafka_topic_s *topic,
                          struct kafka_headers *kept, struct record *record);

#endif
