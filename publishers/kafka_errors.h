/*
 * What librdkafka's error codes mean for a record: the one place that decides between dead letter,
 * parked topic and another try.
 *
 * Any thread.
 */
#ifndef PUBLISHERS_KAFKA_ERRORS_H
#define PUBLISHERS_KAFKA_ERRORS_H

#include "publishers/publisher.h"

/* `code` is a rd_kafka_resp_err_t. Sets `out_reason` to a static code, NULL when it was delivered.
 */
enum settled_as kafka_error_class(int code, const char **out_reason);

#endif
