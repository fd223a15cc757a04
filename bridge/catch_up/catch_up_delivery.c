#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

/*
 * A window goes to the journal in chunks, each event behind the one before, and the next chunk
 * waits until this one is durable: so the order is the log's, even when the journal refuses some
 * for a while.
 */

enum {
    WAIT_MS = 20,               /* between two looks whether it is time */
    REFUSED_MS = 500,           /* after the journal had no room */
    SLOWEST_MS = 500,           /* a chunk comes at least so often while there is room */
    QUIET_MS = 10 * 1000,       /* waits that are longer than this are said in the log, */
    LINE_MS = 60 * 1000,        /* so often */
    LAG_DIVISOR = 8,            /* of a publisher's window */
    HIDDEN_MS = 60 * 60 * 1000, /* after this time only admins see the data of an event */
};

#define NOT_ADMINS                                                                                 \
    "events older than an hour come without data, which Close shows to admins only: configure "    \
    "the "                                                                                         \
    "api_key of an admin for the account %.80s, and run a reload; they are read again then"

/* ---- when ---- */

/* Events that are not settled yet for a publisher that is configured. */
static uint64_t backlog_of(const struct catch_up *self, const struct journal_numbers *numbers,
                           int publisher)
{
    const struct dispatcher *dispatcher = self->options.dispatcher;
    uint64_t settled;

    if (!dispatcher_is_configured(dispatcher, publisher) ||
        !dispatcher_settled(dispatcher, publisher, &settled))
        return 0;
    return numbers->tail > settled ? numbers->tail - settled : 0;
}

/* What the journal holds for one publisher, about. */
static uint64_t bytes_waiting(const struct journal_numbers *numbers, uint64_t backlog)
{
    uint64_t kept = numbers->tail >= numbers->head ? numbers->tail - numbers->head + 1 : 1;

    return numbers->bytes / kept * backlog;
}

/*
 * Live events go first. A publisher that lags has them to send; one whose broker is away must not
 * have the journal filled by what Close keeps for 30 days anyway.
 */
static const char *what_to_wait_for(const struct catch_up *self)
{
    const uint32_t windows[PUBLISHER_COUNT] = {[PUBLISHER_KAFKA] = self->config->kafka.window,
                                               [PUBLISHER_MQTT] = self->config->mqtt.window};
    bool is_overdue = catch_up_now_ms(self) - self->last_chunk_ms >= SLOWEST_MS;
    struct journal_numbers numbers;

    journal_numbers(self->options.journal, &numbers);
    if (!numbers.can_accept)
        return numbers.trouble;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        uint64_t backlog = backlog_of(self, &numbers, p);

        if (bytes_waiting(&numbers, backlog) > numbers.max_bytes / 2)
            return "half of the journal is full of undelivered events";
        if (!is_overdue && backlog > windows[p] / LAG_DIVISOR &&
            !dispatcher_is_down(self->options.dispatcher, p, true))
            return "a publisher lags: live events go first";
    }
    return NULL;
}

static bool is_interrupted(const struct catch_up *self, const struct catch_up_task *task)
{
    return atomic_load(&self->is_stopping) || task->is_cancelled;
}

/* Meanwhile requests are served. */
static void wait_a_little(struct catch_up *self, int timeout_ms)
{
    int64_t end_ms = catch_up_now_ms(self) + timeout_ms;

    while (catch_up_now_ms(self) < end_ms && !atomic_load(&self->is_stopping)) {
        wakeup_wait(&self->wakeup, (int)(end_ms - catch_up_now_ms(self)));
        catch_up_serve(self);
    }
    catch_up_show(self, false);
}

/* ---- a chunk ---- */

/* On the journal's thread. */
static void on_done(struct delivery *delivery)
{
    struct catch_up *self = container_of(delivery, struct catch_up_flight, delivery)->self;

    if (atomic_fetch_sub(&self->on_the_way, 1) == 1)
        wakeup_signal(&self->wakeup);
}

static void send_off(struct catch_up *self, size_t chunk)
{
    atomic_store(&self->on_the_way, chunk);
    for (size_t i = 0; i < chunk; i++) {
        struct delivery *delivery = &self->flights[i].delivery;

        delivery->after = i > 0 ? &self->flights[i - 1].delivery : NULL;
        self->intake->accept(self->intake, delivery);
    }
    while (atomic_load(&self->on_the_way) > 0)
        wakeup_wait(&self->wakeup, -1);
}

static void count(struct catch_up_account *account, struct catch_up_task *task,
                  enum catch_up_result result)
{
    task->counts[result]++;
    if (!task->is_dry_run)
        metric_add(account->events[result], 1);
}

static void count_outcome(struct catch_up *self, struct catch_up_account *account,
                          enum delivery_outcome outcome)
{
    struct catch_up_task *task = account->current;

    if (outcome == DELIVERY_DEAD_LETTERED)
        metric_add(self->dead_letters, 1);
    count(account, task,
          outcome == DELIVERY_ACCEPTED    ? CATCH_UP_ACCEPTED
          : outcome == DELIVERY_DUPLICATE ? CATCH_UP_DUPLICATE
                                          : CATCH_UP_MALFORMED);
}

/* Counts what is durable; what was refused moves to the front and is offered again. */
static size_t keep_refused(struct catch_up *self, struct catch_up_account *account, size_t sent)
{
    size_t refused = 0;

    for (size_t i = 0; i < sent; i++) {
        struct catch_up_flight *flight = &self->flights[i];

        if (flight->delivery.outcome == DELIVERY_UNAVAILABLE) {
            self->flights[refused++].delivery.event = flight->delivery.event;
            continue;
        }
        count_outcome(self, account, flight->delivery.outcome);
        event_unref(flight->delivery.event);
    }
    return refused;
}

static void drop_flights(struct catch_up *self)
{
    for (size_t i = 0; i < self->flight_count; i++)
        event_unref(self->flights[i].delivery.event);
    self->flight_count = 0;
}

static void wait_for_time(struct catch_up *self, const struct catch_up_account *account)
{
    int64_t next_line_ms = catch_up_now_ms(self) + QUIET_MS;
    const char *reason = what_to_wait_for(self);

    for (; reason && !is_interrupted(self, account->current); reason = what_to_wait_for(self)) {
        self->waits_for = reason;
        if (catch_up_now_ms(self) >= next_line_ms) {
            next_line_ms = catch_up_now_ms(self) + LINE_MS;
            log_info("catch_up.waits", log_str("account", account->name), log_str("for", reason));
        }
        wait_a_little(self, WAIT_MS);
    }
    self->waits_for = NULL;
}

/* Until all of the chunk is durable; false when it was interrupted before. */
static bool flush(struct catch_up *self, struct catch_up_account *account)
{
    const struct catch_up_task *task = account->current;
    int64_t begun_ms;

    while (self->flight_count > 0) {
        wait_for_time(self, account);
        if (is_interrupted(self, task)) {
            drop_flights(self);
            return false;
        }
        begun_ms = catch_up_now_ms(self);
        send_off(self, self->flight_count);
        self->last_chunk_ms = catch_up_now_ms(self);
        self->flight_count = keep_refused(self, account, self->flight_count);
        if (self->flight_count > 0)
            wait_a_little(self, REFUSED_MS);
        else
            wait_a_little(self,
                          (int)(self->last_chunk_ms - begun_ms)); /* the other half is others' */
    }
    catch_up_serve(self);
    catch_up_show(self, false);
    return true;
}

/* Takes the event. False when it was interrupted. */
static bool add(struct catch_up *self, struct catch_up_account *account, struct event *event)
{
    struct catch_up_flight *flight;

    if (self->flight_count == CATCH_UP_CHUNK && !flush(self, account)) {
        event_unref(event);
        return false;
    }
    if (!event_has(event, EVENT_IS_OPAQUE))
        self->intake->identify(self->intake, event);
    flight = &self->flights[self->flight_count++];
    *flight = (struct catch_up_flight){.delivery = {.event = event, .done = on_done}, .self = self};
    return true;
}

/* ---- an event ---- */

/* The body that a webhook would have had, but for the id of a subscription. */
static struct event *parse(struct catch_up *self, const struct event_origin *origin,
                           struct text json, struct error *err)
{
    struct buf body = {0};
    struct event *event = NULL;

    buf_append_string(&body, "{\"subscription_id\": null, \"event\": ");
    buf_append_text(&body, json);
    buf_append_char(&body, '}');
    if (body.failed)
        error_set(err, ERROR_FATAL, "an event of Close's Event Log: out of memory");
    else
        event = event_parse(self->parser, origin, buf_text(&body), err);
    buf_release(&body);
    return event;
}

static struct event *make(struct catch_up *self, const struct catch_up_account *account,
                          struct text json, struct error *err)
{
    struct event_origin origin = {.account = text_of(account->name),
                                  .received_ms = clock_wall_ms(self->options.clock),
                                  .flags = EVENT_FROM_LOG};
    struct event *event = parse(self, &origin, json, err);

    if (event || err->kind != ERROR_INPUT)
        return event;
    log_warn("catch_up.not_an_event", log_str("account", account->name),
             log_str("reason", err->message),
             log_str("kept", account->current->is_dry_run ? "no: a dry run" : "as a dead letter"));
    event = event_opaque(&origin, json);
    if (!event)
        error_set(err, ERROR_FATAL, "an event of Close's Event Log: out of memory");
    return event;
}

/* 1: handed on, or left out; 0: interrupted; -1: failed. */
static int take_event(struct catch_up *self, struct catch_up_account *account, struct text json,
                      struct error *err)
{
    struct catch_up_task *task = account->current;
    struct event *event = make(self, account, json, err);
    bool is_opaque;

    if (!event)
        return -1;
    is_opaque = event_has(event, EVENT_IS_OPAQUE);
    if (!is_opaque &&
        (!catch_up_task_selects(task, event) || !router_matches(self->router, event))) {
        count(account, task, CATCH_UP_IGNORED);
    } else if (task->is_dry_run) {
        count(account, task, is_opaque ? CATCH_UP_MALFORMED : CATCH_UP_ACCEPTED);
    } else {
        return add(self, account, event) ? 1 : 0;
    }
    event_unref(event);
    return 1;
}

/* ---- a window ---- */

static bool is_withheld(const struct catch_up *self, const struct catch_up_account *account,
                        const struct log_entry *entry)
{
    return entry->has_date && !entry->has_data &&
           catch_up_close_ms(self, account) - entry->date_ms > HIDDEN_MS;
}

struct withheld {
    size_t count;
    int64_t oldest_ms;
    int64_t newest_ms;
};

static struct withheld find_withheld(const struct catch_up *self,
                                     const struct catch_up_account *account,
                                     const struct log_entry *entries, size_t entry_count)
{
    struct withheld withheld = {0};

    for (size_t i = 0; i < entry_count; i++) {
        if (!is_withheld(self, account, &entries[i]))
            continue;
        if (withheld.count++ == 0)
            withheld.oldest_ms = entries[i].date_ms;
        withheld.newest_ms = entries[i].date_ms;
    }
    return withheld;
}

static int deliver_entries(struct catch_up *self, struct catch_up_account *account,
                           const struct log_entry *entries, size_t entry_count, struct error *err)
{
    struct catch_up_task *task = account->current;
    int rc = 1;

    self->flight_count = 0;
    for (size_t i = 0; i < entry_count && rc > 0; i++) {
        task->read++;
        if (is_withheld(self, account, &entries[i]))
            count(account, task, CATCH_UP_WITHHELD);
        else
            rc = take_event(self, account, entries[i].json, err);
        if (is_interrupted(self, task))
            rc = rc > 0 ? 0 : rc;
    }
    if (rc > 0 && !flush(self, account))
        rc = 0;
    drop_flights(self);
    return rc;
}

/* A scheduled run goes on, for the next events will be hidden soon, too. */
static void leave_for_later(struct catch_up_account *account, const struct withheld *withheld)
{
    if (withheld->count == 0 || account->current->is_dry_run)
        return;
    catch_up_task_widen(account, CATCH_UP_INCOMPLETE, withheld->oldest_ms, withheld->newest_ms + 1);
    log_error("catch_up.incomplete", log_str("account", account->name),
              log_i64("events", (int64_t)withheld->count), log_time("since", withheld->oldest_ms),
              log_time("until", withheld->newest_ms),
              log_str("action", "events older than an hour come without data, which Close shows to "
                                "admins only: configure the api_key of an admin, and reload"));
}

enum catch_up_delivered catch_up_deliver(struct catch_up *self, struct catch_up_account *account,
                                         struct error *err)
{
    const struct catch_up_task *task = account->current;
    size_t entry_count;
    const struct log_entry *entries = event_log_entries(account->reading, &entry_count);
    struct withheld withheld = find_withheld(self, account, entries, entry_count);
    int rc;

    if (withheld.count > 0 && task->cause != CATCH_UP_SCHEDULED && !task->is_dry_run) {
        error_set(err, ERROR_CONFIG, NOT_ADMINS, account->name);
        return CATCH_UP_HELD_BACK;
    }
    rc = deliver_entries(self, account, entries, entry_count, err);
    if (rc <= 0)
        return rc < 0 ? CATCH_UP_NOT_DELIVERED : CATCH_UP_INTERRUPTED;
    leave_for_later(account, &withheld);
    return CATCH_UP_DELIVERED;
}
