#include "bridge/dispatcher/carrier.h"

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/thread.h"
#include "bridge/config/config.h"

enum {
    DRAIN_MS = 5000, /* for the publisher before to settle what it has */
    END_MS = 2000,   /* for its farewell */
    RETRY_MS = 1000, /* between two tries to make the next one */
};

static int64_t now_ms(const struct carrier *carrier)
{
    return clock_monotonic_ms(carrier->clock);
}

static void take_options(struct carrier_options *to, const struct carrier_options *from)
{
    *to = *from;
    if (to->config)
        config_ref(to->config);
}

static void drop_options(struct carrier_options *options)
{
    config_free(options->config);
    *options = (struct carrier_options){NULL, NULL};
}

/* Makes a publisher of `current`. */
static int make(struct carrier *carrier, struct error *err)
{
    carrier->publisher =
        carrier->ops->create(carrier->current.options, carrier->clock, carrier->events, err);
    if (!carrier->publisher)
        return error_context(err, "publisher %s", carrier->ops->name);
    carrier->phase = CARRIER_OPEN;
    return 0;
}

int carrier_open(struct carrier *carrier, const struct carrier_options *options, struct error *err)
{
    take_options(&carrier->current, options);
    if (make(carrier, err) == 0)
        return 0;
    drop_options(&carrier->current);
    return -1;
}

static void make_next(struct carrier *carrier)
{
    struct error err = {0};

    carrier->phase = CARRIER_EMPTY;
    if (!carrier->current.options)
        return;
    if (make(carrier, &err) == 0) {
        log_info("publisher.opened", log_str("publisher", carrier->ops->name));
        return;
    }
    log_error("publisher.not_opened", log_str("publisher", carrier->ops->name),
              log_str("error", err.message), log_str("action", "tried again every second"));
    carrier->phase = CARRIER_WAITING;
    carrier->deadline_ms = now_ms(carrier) + RETRY_MS;
}

void carrier_change(struct carrier *carrier, const struct carrier_options *options)
{
    switch (carrier->phase) {
    case CARRIER_EMPTY:
    case CARRIER_WAITING:
        drop_options(&carrier->current);
        take_options(&carrier->current, options);
        make_next(carrier);
        return;
    case CARRIER_OPEN:
        carrier->phase = CARRIER_DRAINING;
        carrier->deadline_ms = now_ms(carrier) + DRAIN_MS;
        break;
    case CARRIER_DRAINING:
    case CARRIER_ENDING:
        drop_options(&carrier->next);
        break;
    }
    take_options(&carrier->next, options);
}

int carrier_fd(const struct carrier *carrier)
{
    bool is_ours = carrier->phase == CARRIER_OPEN || carrier->phase == CARRIER_DRAINING;

    return is_ours ? carrier->publisher->fd : -1;
}

enum submit_result carrier_submit(struct carrier *carrier, struct record *record)
{
    if (carrier->phase != CARRIER_OPEN)
        return SUBMIT_BUSY;
    return carrier->ops->submit(carrier->publisher, record);
}

static void *end_publisher(void *argument)
{
    struct carrier *carrier = argument;

    carrier->is_free = carrier->ops->destroy(carrier->publisher, END_MS);
    atomic_store(&carrier->has_ended, true);
    wakeup_signal(carrier->wakeup);
    return NULL;
}

static void start_ending(struct carrier *carrier)
{
    carrier->phase = CARRIER_ENDING;
    atomic_store(&carrier->has_ended, false);
    /* The thread takes the publisher over: nothing here touches it any more. */
    carrier->has_ender =
        thread_start(&carrier->ender, "end-publisher", end_publisher, carrier, NULL) == 0;
    if (!carrier->has_ender)
        end_publisher(carrier); /* without a thread it is done here, however long it takes */
}

static void join_ender(struct carrier *carrier)
{
    if (carrier->has_ender)
        pthread_join(carrier->ender, NULL);
    carrier->has_ender = false;
}

static void forget_publisher(struct carrier *carrier)
{
    carrier->publisher = NULL;
    if (carrier->is_free)
        drop_options(&carrier->current);
    else /* what hangs may look at the options: their configuration stays in memory */
        log_warn("publisher.hangs", log_str("publisher", carrier->ops->name),
                 log_str("action", "it is left to itself; the next one takes its place"));
    carrier->current = carrier->next;
    carrier->next = (struct carrier_options){NULL, NULL};
}

static enum carrier_news finish_ending(struct carrier *carrier)
{
    join_ender(carrier);
    forget_publisher(carrier);
    if (!carrier->current.options)
        log_info("publisher.closed", log_str("publisher", carrier->ops->name));
    make_next(carrier);
    return carrier->is_free ? CARRIER_HAS_ENDED : CARRIER_HANGS;
}

enum carrier_news carrier_turn(struct carrier *carrier, bool fd_is_readable, bool is_idle)
{
    if (fd_is_readable && carrier->ops->serve &&
        (carrier->phase == CARRIER_OPEN || carrier->phase == CARRIER_DRAINING))
        carrier->ops->serve(carrier->publisher);
    switch (carrier->phase) {
    case CARRIER_EMPTY:
    case CARRIER_OPEN:
        break;
    case CARRIER_DRAINING:
        if (is_idle || now_ms(carrier) >= carrier->deadline_ms)
            start_ending(carrier);
        break;
    case CARRIER_ENDING:
        if (atomic_load(&carrier->has_ended))
            return finish_ending(carrier);
        break;
    case CARRIER_WAITING:
        if (now_ms(carrier) >= carrier->deadline_ms)
            make_next(carrier);
        return carrier->phase == CARRIER_OPEN ? CARRIER_HAS_OPENED : CARRIER_NO_NEWS;
    }
    return CARRIER_NO_NEWS;
}

bool carrier_close(struct carrier *carrier, int64_t timeout_ms)
{
    if (carrier->phase == CARRIER_ENDING) {
        join_ender(carrier);
    } else if (carrier->publisher) {
        carrier->is_free = carrier->ops->destroy(carrier->publisher, timeout_ms);
    } else {
        carrier->is_free = true;
    }
    carrier->publisher = NULL;
    carrier->phase = CARRIER_EMPTY;
    if (carrier->is_free)
        drop_options(&carrier->current);
    drop_options(&carrier->next);
    return carrier->is_free;
}
