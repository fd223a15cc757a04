/*
 * What librdkafka's error codes mean for a record.
 */
#ifndef PUBLISHERS_KAFKA_ERRORS_H
#define PUBLISHERS_KAFKA_ERRORS_H

#include "publishers/publisher.h"

/* `code` is a rd_kafka_resp_err_t. Sets `out_reason` to a static code. */
enum settled_as kafka_error_class(int code, const char **out_reason);

#endif
