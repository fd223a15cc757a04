/*
 * librdkafka's log lines on their way to ours: warnings at most a few a minute, because a broker
 * that is away makes librdkafka repeat itself; what `debug` asks for goes to our debug level.
 */
#ifndef PUBLISHERS_KAFKA_LOG_H
#define PUBLISHERS_KAFKA_LOG_H

struct rd_kafka_s;

/* A log_cb. Any thread of librdkafka. */
void kafka_log_line(const struct rd_kafka_s *producer, int level, const char *facility,
                    const char *text);

#endif
