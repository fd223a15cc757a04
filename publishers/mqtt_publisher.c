/*
 * Threads
 *   dispatcher  submit(), destroy()
 *   mqtt        everything else, and all of libmosquitto
 *
 * A record goes through `submitted` to the mqtt thread, which keeps it in a ring in order of
 * submission until it is settled, so that at the end of a connection all are given back in that
 * order.
 */
#include "publishers/mqtt_publisher.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mosquitto.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/thread.h"
#include "publishers/mqtt_connection.h"
#include "publishers/mqtt_reasons.h"
#include "publishers/publisher.h"

enum {
    MAX_WINDOW =
        1000, /* far below the 65,535 message ids, which libmosquitto does not check (TRAPS M5) */
    RING = 4 * MAX_WINDOW, /* settled ones in between take room until the oldest is settled */
    MIDS = 65536,
    TURN_MS = 200,
    FIRST_BACK_OFF_MS = 100,
    MAX_BACK_OFF_MS = 10000,
    LOG_PAUSE_MS = 60000,
};

/* A record that the broker has not acknowledged. */
struct flying {
    struct record *record; /* NULL: settled */
    int mid;
    int64_t deadline_ms;
};

struct mqtt {
    struct publisher base;
    const struct mqtt_options *options;
    const struct clock *clock;
    pthread_t thread;
    bool has_thread;
    struct wakeup wakeup;
    struct mailbox submitted;
    atomic_bool is_stopping;
    atomic_bool is_accepting;   /* connected, and all records of the last connection given back */
    _Atomic uint32_t unsettled; /* records that the publisher has */
    _Atomic uint32_t window;    /* as this broker allows */
    atomic_bool ready_is_owed;  /* submit() answered SUBMIT_BUSY */
    struct mqtt_connection *connection;
    struct flying ring[RING]; /* [first, last) modulo RING */
    size_t first;
    size_t last;
    uint16_t place_of_mid[MIDS]; /* place in the ring plus one; 0: not one of ours */
    struct record *publishing;   /* QoS 0 is acknowledged inside publish */
    bool is_up;
    bool state_is_known;
    int64_t back_off_ms;
    int64_t next_log_ms;
    uint32_t unseen; /* random: see jitter() */
};

static int64_t now_ms(const struct mqtt *mqtt)
{
    return clock_monotonic_ms(mqtt->clock);
}

static bool has_room(struct mqtt *mqtt)
{
    return atomic_load(&mqtt->is_accepting) &&
           atomic_load(&mqtt->unsettled) < atomic_load(&mqtt->window);
}

static enum submit_result submit(struct publisher *self, struct record *record)
{
    struct mqtt *mqtt = (struct mqtt *)self;

    if (!has_room(mqtt)) {
        atomic_store(&mqtt->ready_is_owed, true);
        /* Again, because there may have been room before the thread could know that it owes a call.
         */
        if (!has_room(mqtt))
            return SUBMIT_BUSY;
    }
    atomic_fetch_add(&mqtt->unsettled, 1);
    mailbox_push(&mqtt->submitted, &record->node);
    return SUBMIT_ACCEPTED;
}

static void settle(struct mqtt *mqtt, struct record *record, enum settled_as as, const char *reason)
{
    record->outcome.as = as;
    record->outcome.reason = reason;
    atomic_fetch_sub(&mqtt->unsettled, 1);
    mqtt->base.events.on_settled(mqtt->base.events.context, record);
}

static void set_state(struct mqtt *mqtt, bool is_up, const char *reason)
{
    if (mqtt->state_is_known && mqtt->is_up == is_up) {
        if (!is_up && now_ms(mqtt) >= mqtt->next_log_ms) {
            log_warn("mqtt.still_down", log_str("error", reason));
            mqtt->next_log_ms = now_ms(mqtt) + LOG_PAUSE_MS;
        }
        return;
    }
    mqtt->state_is_known = true;
    mqtt->is_up = is_up;
    mqtt->next_log_ms = now_ms(mqtt) + LOG_PAUSE_MS;
    mqtt->base.events.on_state(mqtt->base.events.context, is_up, reason);
}

/* ---- the ring ---- */

static size_t ring_size(const struct mqtt *mqtt)
{
    return mqtt->last - mqtt->first;
}

static struct flying *at(struct mqtt *mqtt, size_t place)
{
    return &mqtt->ring[place % RING];
}

static void forget_settled(struct mqtt *mqtt)
{
    while (ring_size(mqtt) > 0 && !at(mqtt, mqtt->first)->record)
        mqtt->first++;
}

static void on_acknowledged(void *context, int mid, int reason_code)
{
    struct mqtt *mqtt = context;
    uint16_t place = mqtt->place_of_mid[mid & (MIDS - 1)];
    struct record *record = NULL;
    const char *reason;
    enum settled_as as;

    if (place > 0) {
        mqtt->place_of_mid[mid & (MIDS - 1)] = 0;
        record = mqtt->ring[place - 1].record;
        mqtt->ring[place - 1].record = NULL;
    } else if (mqtt->publishing && mqtt->publishing->qos == 0) {
        record = mqtt->publishing;
        mqtt->publishing = NULL;
    }
    if (!record)
        return; /* the status message */
    as = mqtt_reason_class(reason_code, mqtt->options->no_subscribers, &reason);
    settle(mqtt, record, as, reason);
    forget_settled(mqtt);
}

static void on_connected(void *context, uint32_t receive_maximum)
{
    struct mqtt *mqtt = context;
    uint32_t window = mqtt->options->window < MAX_WINDOW ? mqtt->options->window : MAX_WINDOW;

    atomic_store(&mqtt->window, receive_maximum < window ? receive_maximum : window);
    mqtt->back_off_ms = FIRST_BACK_OFF_MS;
    atomic_store(&mqtt->is_accepting, true);
    set_state(mqtt, true, mqtt->options->host);
}

static void fly(struct mqtt *mqtt, struct record *record, int mid)
{
    size_t place = mqtt->last++;

    *at(mqtt, place) = (struct flying){record, mid, now_ms(mqtt) + mqtt->options->ack_timeout_ms};
    mqtt->place_of_mid[mid & (MIDS - 1)] = (uint16_t)(place % RING + 1);
}

/* Returns false when the connection turned out to be gone. */
static bool publish(struct mqtt *mqtt, struct record *record)
{
    const char *reason;
    int mid = 0;
    int rc;

    mqtt->publishing = record;
    rc = mqtt_connection_publish(mqtt->connection, record, &mid);
    if (rc == MOSQ_ERR_SUCCESS && !mqtt->publishing)
        return true; /* QoS 0, sent and settled */
    mqtt->publishing = NULL;
    if (rc != MOSQ_ERR_SUCCESS) {
        enum settled_as as = mqtt_publish_error_class(rc, &reason);

        if (as != SETTLED_RETRY) {
            settle(mqtt, record, as, reason);
            return true;
        }
        /* libmosquitto may have queued it all the same (TRAPS M4): its queue ends with the
         * connection. */
    }
    fly(mqtt, record, mid);
    return rc == MOSQ_ERR_SUCCESS;
}

/* Publishes what was submitted; without a connection it goes back. */
static bool take_submitted(struct mqtt *mqtt)
{
    struct mailbox_node *node = mailbox_take(&mqtt->submitted);
    bool can_publish = mqtt->connection && atomic_load(&mqtt->is_accepting);
    bool are_many = can_publish && node && node->next;
    bool is_lost = false;

    if (are_many)
        mqtt_connection_hold(mqtt->connection);
    while (node) {
        struct record *record = container_of(node, struct record, node);

        node = node->next;
        if (can_publish && !is_lost && ring_size(mqtt) < RING)
            is_lost = !publish(mqtt, record);
        else
            settle(mqtt, record, SETTLED_RETRY, "connection_lost");
    }
    if (are_many)
        mqtt_connection_release(mqtt->connection);
    return !is_lost;
}

static void give_back_all(struct mqtt *mqtt)
{
    for (; ring_size(mqtt) > 0; mqtt->first++) {
        struct flying *flying = at(mqtt, mqtt->first);

        if (flying->record)
            settle(mqtt, flying->record, SETTLED_RETRY, "connection_lost");
        flying->record = NULL;
    }
    memset(mqtt->place_of_mid, 0, sizeof(mqtt->place_of_mid));
    take_submitted(mqtt);
}

static void end_connection(struct mqtt *mqtt, const char *why)
{
    atomic_store(&mqtt->is_accepting, false);
    mqtt_connection_free(mqtt->connection, false);
    mqtt->connection = NULL;
    set_state(mqtt, false, why);
    give_back_all(mqtt);
}

/* ---- the thread ---- */

static void pay_ready(struct mqtt *mqtt)
{
    if (atomic_load(&mqtt->ready_is_owed) && has_room(mqtt) &&
        atomic_exchange(&mqtt->ready_is_owed, false))
        mqtt->base.events.on_ready(mqtt->base.events.context);
}

/* A number in [0, limit): bridges that lost one broker shall not come back in step. */
static int64_t jitter(struct mqtt *mqtt, int64_t limit)
{
    mqtt->unseen = mqtt->unseen * 1664525u + 1013904223u;
    return (int64_t)(mqtt->unseen >> 8) % limit;
}

static void back_off(struct mqtt *mqtt)
{
    int64_t until_ms = now_ms(mqtt) + mqtt->back_off_ms / 2 + jitter(mqtt, mqtt->back_off_ms);

    mqtt->back_off_ms =
        mqtt->back_off_ms * 2 > MAX_BACK_OFF_MS ? MAX_BACK_OFF_MS : mqtt->back_off_ms * 2;
    while (!atomic_load(&mqtt->is_stopping) && now_ms(mqtt) < until_ms) {
        wakeup_wait(&mqtt->wakeup, (int)(until_ms - now_ms(mqtt)) + 1);
        take_submitted(mqtt);
    }
}

static void connect_to_broker(struct mqtt *mqtt)
{
    struct mqtt_connection_events events = {on_connected, on_acknowledged, mqtt};
    struct error err;

    mqtt->connection = mqtt_connection_open(mqtt->options, mqtt->clock, events, &err);
    if (mqtt->connection || atomic_load(&mqtt->is_stopping))
        return;
    set_state(mqtt, false, err.message);
    back_off(mqtt);
}

static bool is_overdue(struct mqtt *mqtt)
{
    return ring_size(mqtt) > 0 && now_ms(mqtt) >= at(mqtt, mqtt->first)->deadline_ms;
}

static int wait_and_turn(struct mqtt *mqtt, struct error *err)
{
    bool wants_write;
    struct pollfd fds[2] = {{.fd = mqtt->wakeup.fd, .events = POLLIN},
                            {.fd = mqtt_connection_socket(mqtt->connection, &wants_write)}};

    fds[1].events = (short)(POLLIN | (wants_write ? POLLOUT : 0));
    if (poll(fds, 2, TURN_MS) > 0 && fds[0].revents)
        wakeup_clear(&mqtt->wakeup);
    if (mqtt_connection_turn(mqtt->connection, (fds[1].revents & ~POLLOUT) != 0,
                             (fds[1].revents & POLLOUT) != 0, err) < 0)
        return -1;
    if (!take_submitted(mqtt))
        return error_set(err, ERROR_TRANSIENT, "the connection was lost");
    if (is_overdue(mqtt))
        return error_set(err, ERROR_TRANSIENT, "the broker does not acknowledge");
    return 0;
}

static void *run(void *argument)
{
    struct mqtt *mqtt = argument;
    struct error err;

    while (!atomic_load(&mqtt->is_stopping)) {
        if (!mqtt->connection) {
            connect_to_broker(mqtt);
            continue;
        }
        if (wait_and_turn(mqtt, &err) < 0) {
            end_connection(mqtt, err.message);
            back_off(mqtt);
        }
        pay_ready(mqtt);
    }
    atomic_store(&mqtt->is_accepting, false);
    mqtt_connection_free(mqtt->connection, true);
    mqtt->connection = NULL;
    return NULL;
}

/* ---- life ---- */

static bool stop_thread(struct mqtt *mqtt, int64_t timeout_ms)
{
    struct timespec until;

    if (!mqtt->has_thread)
        return true;
    atomic_store(&mqtt->is_stopping, true);
    wakeup_signal(&mqtt->wakeup);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (pthread_timedjoin_np(mqtt->thread, NULL, &until) == 0)
        return true;
    pthread_detach(mqtt->thread);
    return false;
}

static bool destroy(struct publisher *self, int64_t timeout_ms)
{
    struct mqtt *mqtt = (struct mqtt *)self;

    if (!mqtt)
        return true;
    if (!stop_thread(mqtt, timeout_ms))
        return false; /* it hangs in connect(): its memory goes with the process */
    wakeup_release(&mqtt->wakeup);
    free(mqtt);
    mosquitto_lib_cleanup();
    return true;
}

static struct publisher *create(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err)
{
    struct mqtt *mqtt = calloc(1, sizeof(*mqtt));

    if (!mqtt) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    mosquitto_lib_init();
    mqtt->base = (struct publisher){&mqtt_publisher_ops, events, -1};
    mqtt->options = options;
    mqtt->clock = clock;
    mqtt->back_off_ms = FIRST_BACK_OFF_MS;
    mqtt->unseen = (uint32_t)(clock_monotonic_us(clock) ^ clock_wall_ms(clock));
    mqtt->wakeup.fd = -1;
    if (wakeup_init(&mqtt->wakeup, err) == 0) {
        mailbox_init(&mqtt->submitted, &mqtt->wakeup);
        if (thread_start(&mqtt->thread, "mqtt", run, mqtt, err) == 0) {
            mqtt->has_thread = true;
            return &mqtt->base;
        }
    }
    destroy(&mqtt->base, 0);
    return NULL;
}

const struct publisher_ops mqtt_publisher_ops = {
    .name = "mqtt",
    .create = create,
    .submit = submit,
    .destroy = destroy,
};
