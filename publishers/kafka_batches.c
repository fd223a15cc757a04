#include "publishers/kafka_batches.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>

enum { SLOW_US = 100000, VERY_SLOW_US = 500000 };

void kafka_batches_init(struct kafka_batches *batches, const struct rd_kafka_conf_s *conf)
{
    char milliseconds[32] = "0";
    size_t size = sizeof(milliseconds);

    if (rd_kafka_conf_get(conf, "linger.ms", milliseconds, &size) != RD_KAFKA_CONF_OK)
        milliseconds[0] = '\0';
    batches->linger_us = (int64_t)(strtod(milliseconds, NULL) * 1000);
    batches->began_us = 0;
    batches->patience_us = SLOW_US;
}

static bool is_slow(const struct kafka_batches *batches, int64_t now_us)
{
    return now_us - batches->began_us >= batches->linger_us + batches->patience_us;
}

bool kafka_batches_are_open(const struct kafka_batches *batches, size_t in_flight, int64_t now_us)
{
    return in_flight == 0 || now_us - batches->began_us < batches->linger_us ||
           is_slow(batches, now_us);
}

void kafka_batches_add(struct kafka_batches *batches, size_t in_flight, int64_t now_us)
{
    if (in_flight > 0 && !is_slow(batches, now_us))
        return;
    if (in_flight > 0)
        batches->patience_us = VERY_SLOW_US;
    batches->began_us = now_us;
}

void kafka_batches_end(struct kafka_batches *batches, int64_t now_us)
{
    bool was_slow = now_us - batches->began_us >= batches->linger_us + SLOW_US;

    batches->patience_us = was_slow ? VERY_SLOW_US : SLOW_US;
}
