#include "publishers/kafka_log.h"

#include <stdatomic.h>
#include <stdint.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

enum { LINES_PER_WINDOW = 4, WINDOW_MS = 60000 };

enum { SYSLOG_WARNING = 4 }; /* librdkafka uses syslog's levels: larger is less */

/* One limit for the process: producers come and go, an outage is one. */
static _Atomic int64_t window_start_ms = -WINDOW_MS;
static atomic_int lines_in_window;
static atomic_int lines_left_out;

static bool may_write(void)
{
    int64_t now_ms = clock_monotonic_ms(&clock_system);
    int64_t start_ms = atomic_load(&window_start_ms);

    if (now_ms - start_ms >= WINDOW_MS &&
        atomic_compare_exchange_strong(&window_start_ms, &start_ms, now_ms))
        atomic_store(&lines_in_window, 0);
    if (atomic_fetch_add(&lines_in_window, 1) < LINES_PER_WINDOW)
        return true;
    atomic_fetch_add(&lines_left_out, 1);
    return false;
}

void kafka_log_line(const struct rd_kafka_s *producer, int level, const char *facility,
                    const char *text)
{
    (void)producer;
    if (level > SYSLOG_WARNING)
        log_debug("kafka.client", log_str("facility", facility), log_str("message", text));
    else if (may_write())
        log_warn("kafka.client", log_str("facility", facility), log_str("message", text),
                 log_i64("left_out", atomic_exchange(&lines_left_out, 0)));
}
