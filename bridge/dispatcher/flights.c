#include "bridge/dispatcher/flights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/dead_fields.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/journal/dedupe.h"
#include "bridge/journal/identity.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum { BUCKETS = 8192, MAX_FLIGHTS = 4000, MAX_BYTES = 64 * 1024 * 1024 };

static const char *const publisher_names[PUBLISHER_COUNT] = {"kafka", "mqtt"};

enum leg_state { LEG_PENDING, LEG_ACKNOWLEDGED, LEG_FAILED };

/* One destination of a flight. */
struct leg {
    struct flight *flight;
    enum leg_state state;
    enum publisher_index publisher;
    const struct config_target *target;
    char *topic;             /* NULL: the event makes a name that is not allowed */
    const char *dead_reason; /* set: the record cannot be taken; its dead letter is what must be
                                acknowledged */
};

struct waiter {
    struct waiter *next;
    struct waiter *next_of_flight;
    struct flight *flight; /* NULL: answered */
    struct delivery *delivery;
    int64_t deadline_ms; /* monotonic */
};

struct flight {
    struct flight *next_in_bucket;
    struct flight *older; /* idle flights: failed, waiting to be delivered again */
    struct flight *newer;
    struct event *event;
    const struct config *config; /* a reference: the legs' targets are in it */
    struct leg *legs;
    size_t leg_count;
    size_t pending;
    struct waiter *waiters;
    bool is_idle;
};

struct flights {
    struct flights_options options;
    struct dedupe *dedupe;
    unsigned char secret[IDENTITY_SECRET_SIZE];
    struct flight *buckets[BUCKETS];
    size_t count;
    size_t bytes;
    size_t pending; /* records on their way */
    struct flight *oldest_idle;
    struct flight *newest_idle;
    struct waiter *first_waiter; /* in order of deadline */
    struct waiter *last_waiter;
    atomic_bool is_stopped;
    atomic_bool trusts_unknown; /* a destination that has not answered yet does not count as down */
};

struct flights *flights_open(const struct flights_options *options, struct error *err)
{
    struct flights *flights = alloc_zeroed(1, sizeof(*flights));

    flights->options = *options;
    if (RAND_bytes(flights->secret, sizeof(flights->secret)) != 1) {
        error_set(err, ERROR_FATAL, "the system gives no random numbers");
        goto fail;
    }
    flights->dedupe = dedupe_new(options->config->journal.dedupe_max, 1,
                                 (uint32_t)(options->config->journal.dedupe_window_ms / 1000), err);
    if (flights->dedupe)
        return flights;
fail:
    flights_close(flights);
    return NULL;
}

static void answer(struct waiter *waiter, enum delivery_outcome outcome, const char *reason)
{
    waiter->delivery->outcome = outcome;
    waiter->delivery->reason = reason;
    waiter->delivery->done(waiter->delivery);
    waiter->delivery = NULL;
    waiter->flight = NULL;
}

/* The waiters stay in the list of deadlines, answered, until their time comes. */
static void answer_all(struct flight *flight, enum delivery_outcome outcome, const char *reason)
{
    struct waiter *waiter = flight->waiters;

    flight->waiters = NULL;
    while (waiter) {
        struct waiter *next = waiter->next_of_flight;

        answer(waiter, outcome, reason);
        waiter = next;
    }
}

static struct flight **bucket_of(struct flights *flights, const struct event *event)
{
    uint64_t hash;

    memcpy(&hash, event->identity, sizeof(hash));
    return &flights->buckets[hash % BUCKETS];
}

static bool is_same_event(const struct event *a, const struct event *b)
{
    return a->has_identity && b->has_identity && a->content == b->content &&
           memcmp(a->identity, b->identity, sizeof(a->identity)) == 0;
}

static struct flight *find(struct flights *flights, const struct event *event)
{
    struct flight *flight = *bucket_of(flights, event);

    while (flight && !is_same_event(flight->event, event))
        flight = flight->next_in_bucket;
    return flight;
}

static void unlink_idle(struct flights *flights, struct flight *flight)
{
    if (!flight->is_idle)
        return;
    if (flight->older)
        flight->older->newer = flight->newer;
    else
        flights->oldest_idle = flight->newer;
    if (flight->newer)
        flight->newer->older = flight->older;
    else
        flights->newest_idle = flight->older;
    flight->older = NULL;
    flight->newer = NULL;
    flight->is_idle = false;
}

static void link_idle(struct flights *flights, struct flight *flight)
{
    flight->is_idle = true;
    flight->older = flights->newest_idle;
    flight->newer = NULL;
    if (flight->older)
        flight->older->newer = flight;
    else
        flights->oldest_idle = flight;
    flights->newest_idle = flight;
}

static void free_flight(struct flights *flights, struct flight *flight)
{
    struct flight **at = bucket_of(flights, flight->event);

    unlink_idle(flights, flight);
    while (*at != flight)
        at = &(*at)->next_in_bucket;
    *at = flight->next_in_bucket;
    flights->count--;
    flights->bytes -= flight->event->record->size;
    for (size_t i = 0; i < flight->leg_count; i++)
        free(flight->legs[i].topic);
    free(flight->legs);
    config_free(flight->config);
    event_unref(flight->event);
    free(flight);
}

void flights_close(struct flights *flights)
{
    if (!flights)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (flights->buckets[i]) {
            answer_all(flights->buckets[i], DELIVERY_UNAVAILABLE, "the bridge is shutting down");
            free_flight(flights, flights->buckets[i]);
        }
    }
    while (flights->first_waiter) {
        struct waiter *next = flights->first_waiter->next;

        free(flights->first_waiter);
        flights->first_waiter = next;
    }
    dedupe_free(flights->dedupe);
    free(flights);
}

void flights_set_config(struct flights *flights, const struct config *config)
{
    flights->options.config = config;
    while (flights->oldest_idle) {
        /* The analyzer does not follow the list: freeing takes the flight out of it. */
        free_flight(flights, flights->oldest_idle); /* NOLINT(clang-analyzer-unix.Malloc) */
    }
    dedupe_set_window(flights->dedupe, (uint32_t)(config->journal.dedupe_window_ms / 1000),
                      (uint32_t)(clock_monotonic_ms(flights->options.clock) / 1000));
    atomic_store(&flights->trusts_unknown, true);
}

void flights_identify(const struct flights *flights, struct event *event)
{
    identity_set(flights->secret, event);
}

static struct dedupe_mark mark_of(const struct flights *flights, const struct event *event)
{
    struct dedupe_mark mark = {
        .content = event->content,
        .age_s = (uint32_t)(clock_monotonic_ms(flights->options.clock) / 1000),
    };

    memcpy(mark.identity, event->identity, sizeof(mark.identity));
    return mark;
}

/* What is acknowledged everywhere is firm at once. */
static void remember(struct flights *flights, const struct event *event)
{
    struct dedupe_mark mark = mark_of(flights, event);

    dedupe_expire(flights->dedupe, mark.age_s);
    dedupe_add(flights->dedupe, &mark);
    dedupe_confirm(flights->dedupe);
}

static bool is_known(const struct flights *flights, const struct event *event)
{
    struct dedupe_mark mark = mark_of(flights, event);

    return event->has_identity && dedupe_find(flights->dedupe, &mark) == DEDUPE_SEEN;
}

/* Every destination has it. */
static void complete(struct flights *flights, struct flight *flight)
{
    bool is_opaque = event_has(flight->event, EVENT_IS_OPAQUE);

    remember(flights, flight->event);
    answer_all(flight, is_opaque ? DELIVERY_DEAD_LETTERED : DELIVERY_ACCEPTED, NULL);
    free_flight(flights, flight);
}

static bool has_failed(const struct flight *flight)
{
    for (size_t i = 0; i < flight->leg_count; i++) {
        if (flight->legs[i].state == LEG_FAILED)
            return true;
    }
    return false;
}

static void conclude(struct flights *flights, struct flight *flight)
{
    if (has_failed(flight))
        answer_all(flight, DELIVERY_UNAVAILABLE, "a destination did not take the event");
    if (flight->pending > 0)
        return;
    if (!has_failed(flight))
        complete(flights, flight);
    else if (flight->config == flights->options.config)
        link_idle(flights, flight);
    else
        free_flight(flights, flight); /* the next try goes where the map now says */
}

static void count_dead(const struct flights *flights, const struct leg *leg)
{
    metric_add(saver_dead_total(flights->options.metrics, publisher_names[leg->publisher],
                                leg->dead_reason),
               1);
    log_warn("record.dead_lettered", log_str("publisher", publisher_names[leg->publisher]),
             log_str("topic", leg->topic ? leg->topic : ""), log_str("reason", leg->dead_reason));
}

static void send_leg(struct flights *flights, struct leg *leg);

static void leg_settled(struct outgoing *outgoing)
{
    struct leg *leg = outgoing->owner;
    struct flight *flight = leg->flight;
    struct flights *flights = outgoing->context;
    enum settled_as as = outgoing->record.outcome.as;
    const char *reason = outgoing->record.outcome.reason;

    outgoing_free(outgoing);
    flight->pending--;
    flights->pending--;
    if (as == SETTLED_DELIVERED) {
        leg->state = LEG_ACKNOWLEDGED;
        if (leg->dead_reason)
            count_dead(flights, leg);
    } else if (as == SETTLED_RECORD_FAULT && !leg->dead_reason) {
        leg->dead_reason = reason;
        send_leg(flights, leg);
    } else {
        leg->state = LEG_FAILED;
        log_warn("record.not_acknowledged", log_str("publisher", publisher_names[leg->publisher]),
                 log_str("topic", leg->topic ? leg->topic : ""), log_str("reason", reason),
                 log_str("action", "answered 503; Close sends it again"));
    }
    conclude(flights, flight);
}

/* What is not an event is copied whole, whatever the policies: nothing else keeps it. */
static struct outgoing *prepare_dead_copy(const struct flights *flights, const struct leg *leg,
                                          struct lane *lane)
{
    struct event *event = leg->flight->event;
    struct dead_fields fields = {.policies = NULL};
    struct dead_copy copy = {.topic = flights->options.config->dead_letter_topic,
                             .reason = leg->dead_reason,
                             .publisher = publisher_names[leg->publisher],
                             .dead_topic = leg->topic ? leg->topic : ""};
    struct outgoing *outgoing;

    if (leg->target && leg->target->fields) {
        copy.policies = &leg->target->fields;
        copy.policy_count = 1;
    } else if (!leg->target && !event_has(event, EVENT_IS_OPAQUE)) { /* unrouted */
        dead_fields_find(flights->options.router, event, copy.publisher, "", &fields);
        copy.policies = fields.policies;
        copy.policy_count = fields.count;
    }
    outgoing = lane_prepare_dead_copy(lane, event, &copy);
    dead_fields_release(&fields);
    return outgoing;
}

static void send_leg(struct flights *flights, struct leg *leg)
{
    struct lane *lane = flights->options.lanes[leg->dead_reason ? PUBLISHER_KAFKA : leg->publisher];
    struct event *event = leg->flight->event;
    struct outgoing *outgoing;

    if (leg->dead_reason)
        outgoing = prepare_dead_copy(flights, leg, lane);
    else
        outgoing = lane_prepare(lane, event, leg->target, leg->topic);
    outgoing->owner = leg;
    outgoing->context = flights;
    outgoing->settled = leg_settled;
    leg->state = LEG_PENDING;
    leg->flight->pending++;
    flights->pending++;
    lane_send(lane, outgoing);
}

static void add_legs(struct flights *flights, struct flight *flight, enum publisher_index publisher)
{
    const struct route *routes;
    size_t count;

    count = router_route(flights->options.router, flight->event, publisher, &routes);
    flight->legs = realloc(flight->legs, (flight->leg_count + count + 1) * sizeof(*flight->legs));
    if (!flight->legs)
        abort(); /* no memory: see alloc.h */
    for (size_t i = 0; i < count; i++)
        flight->legs[flight->leg_count++] =
            (struct leg){.flight = flight,
                         .publisher = publisher,
                         .target = routes[i].target,
                         .topic = routes[i].topic ? alloc_string(routes[i].topic) : NULL,
                         .state = LEG_FAILED};
}

/* What goes nowhere else is kept as a dead letter. */
static void add_dead_leg(struct flight *flight, const char *reason)
{
    free(flight->legs);
    flight->legs = alloc_zeroed(1, sizeof(*flight->legs));
    flight->legs[0] = (struct leg){
        .flight = flight, .publisher = PUBLISHER_KAFKA, .dead_reason = reason, .state = LEG_FAILED};
    flight->leg_count = 1;
}

static struct flight *new_flight(struct flights *flights, struct event *event)
{
    struct flight *flight = alloc_zeroed(1, sizeof(*flight));
    struct flight **bucket = bucket_of(flights, event);

    flight->event = event_ref(event);
    flight->config = config_ref(flights->options.config);
    flight->next_in_bucket = *bucket;
    *bucket = flight;
    flights->count++;
    flights->bytes += event->record->size;
    for (int p = 0; p < PUBLISHER_COUNT && !event_has(event, EVENT_IS_OPAQUE); p++)
        add_legs(flights, flight, (enum publisher_index)p);
    if (event_has(event, EVENT_IS_OPAQUE))
        add_dead_leg(flight, "not_an_event");
    else if (flight->leg_count == 0)
        add_dead_leg(flight, "unrouted"); /* the map changed since it was let in */
    return flight;
}

static void wait_for(struct flights *flights, struct flight *flight, struct delivery *delivery)
{
    struct waiter *waiter = alloc_zeroed(1, sizeof(*waiter));

    waiter->delivery = delivery;
    waiter->flight = flight;
    waiter->deadline_ms = clock_monotonic_ms(flights->options.clock) +
                          flights->options.config->journal.acknowledge_timeout_ms;
    waiter->next_of_flight = flight->waiters;
    flight->waiters = waiter;
    if (flights->last_waiter)
        flights->last_waiter->next = waiter;
    else
        flights->first_waiter = waiter;
    flights->last_waiter = waiter;
}

static bool is_down(const struct flights *flights, enum publisher_index publisher)
{
    return lane_is_down(flights->options.lanes[publisher], !atomic_load(&flights->trusts_unknown));
}

/* True when a destination that this flight still needs is known to be down. */
static bool needs_one_that_is_down(const struct flights *flights, const struct flight *flight)
{
    for (size_t i = 0; i < flight->leg_count; i++) {
        const struct leg *leg = &flight->legs[i];
        enum publisher_index publisher = leg->dead_reason ? PUBLISHER_KAFKA : leg->publisher;

        if (leg->state != LEG_ACKNOWLEDGED && is_down(flights, publisher))
            return true;
    }
    return false;
}

static void refuse(struct delivery *delivery, const char *reason)
{
    delivery->outcome = DELIVERY_UNAVAILABLE;
    delivery->reason = reason;
    delivery->done(delivery);
}

static bool make_room(struct flights *flights, const struct event *event)
{
    while (flights->oldest_idle &&
           (flights->count >= MAX_FLIGHTS || flights->bytes + event->record->size > MAX_BYTES)) {
        /* The analyzer does not follow the list: freeing takes the flight out of it. */
        free_flight(flights, flights->oldest_idle); /* NOLINT(clang-analyzer-unix.Malloc) */
    }
    return flights->count < MAX_FLIGHTS &&
           (flights->count == 0 || flights->bytes + event->record->size <= MAX_BYTES);
}

/* Sends what has not been acknowledged. */
static void take_off(struct flights *flights, struct flight *flight, struct delivery *delivery)
{
    if (needs_one_that_is_down(flights, flight)) {
        if (!flight->is_idle && flight->pending == 0)
            free_flight(flights, flight);
        refuse(delivery, "a destination is down");
        return;
    }
    unlink_idle(flights, flight);
    wait_for(flights, flight, delivery);
    for (size_t i = 0; i < flight->leg_count; i++) {
        if (flight->legs[i].state == LEG_FAILED)
            send_leg(flights, &flight->legs[i]);
    }
}

void flights_accept(struct flights *flights, struct delivery *delivery)
{
    struct event *event = delivery->event;
    struct flight *flight;

    if (atomic_load(&flights->is_stopped)) {
        refuse(delivery, "the bridge is shutting down");
        return;
    }
    if (is_known(flights, event)) {
        delivery->outcome = DELIVERY_DUPLICATE;
        delivery->done(delivery);
        return;
    }
    flight = find(flights, event);
    if (!flight && !make_room(flights, event)) {
        refuse(delivery, "too many events wait for their acknowledgement");
        return;
    }
    take_off(flights, flight ? flight : new_flight(flights, event), delivery);
}

static void leave_flight(struct waiter *waiter)
{
    struct waiter **at = &waiter->flight->waiters;

    while (*at != waiter)
        at = &(*at)->next_of_flight;
    *at = waiter->next_of_flight;
}

int flights_run(struct flights *flights)
{
    int64_t now_ms = clock_monotonic_ms(flights->options.clock);

    while (flights->first_waiter) {
        struct waiter *waiter = flights->first_waiter;

        if (waiter->flight && waiter->deadline_ms > now_ms) {
            int64_t left_ms = waiter->deadline_ms - now_ms;

            return left_ms > 1000 ? 1000 : (int)left_ms;
        }
        if (waiter->flight) {
            leave_flight(waiter);
            answer(waiter, DELIVERY_UNAVAILABLE, "the destinations did not acknowledge in time");
        }
        flights->first_waiter = waiter->next;
        if (!waiter->next)
            flights->last_waiter = NULL;
        free(waiter);
    }
    return 1000;
}

void flights_stop(struct flights *flights)
{
    atomic_store(&flights->is_stopped, true);
}

bool flights_are_at_rest(const struct flights *flights)
{
    return flights->pending == 0;
}

const char *flights_trouble(const struct flights *flights)
{
    if (atomic_load(&flights->is_stopped))
        return "the bridge is shutting down";
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (lane_is_configured(flights->options.lanes[p]) &&
            is_down(flights, (enum publisher_index)p))
            return "a destination is down";
    }
    return NULL;
}
