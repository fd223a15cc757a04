/*
 * A publisher: sends records to one broker and says what became of each.
 *
 * The dispatcher owns publishers and records. A record is lent with submit() until it is settled.
 * Connections and producers come and go inside a publisher; when one ends, every record that it had
 * not settled is settled as SETTLED_RETRY, and until all of them are, submit() answers SUBMIT_BUSY,
 * so that the dispatcher can send them again in their order.
 */
#ifndef PUBLISHERS_PUBLISHER_H
#define PUBLISHERS_PUBLISHER_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"
#include "schemas/encoder.h"

struct clock;
struct error;
struct event;
struct publisher;

enum settled_as {
    SETTLED_DELIVERED,         /* the broker acknowledged it */
    SETTLED_RECORD_FAULT,      /* this record can never be taken: too large, not encodable */
    SETTLED_DESTINATION_FAULT, /* its topic does not take records now: unknown, not authorised,
                                  quota */
    SETTLED_RETRY, /* nothing is known: the connection or the producer ended; send it again */
};

/* One message for one topic. The publisher reads it and writes only `outcome`. */
struct record {
    struct mailbox_node
        node; /* for the way back; free to use by the publisher while it has the record */
    struct event *event; /* attributes come from it */
    const char *topic;   /* checked by topic_template */
    struct text key;     /* Kafka's partition key; data == NULL: a null key */
    struct text value;   /* data == NULL: a null value (tombstone) */
    enum format format;  /* decides content type and whether attributes are sent beside the value */
    int64_t timestamp_ms; /* Kafka's record timestamp; 0: now */
    int qos;              /* MQTT */
    bool retain;          /* MQTT */
    bool is_replay;
    const char
        *dead_reason; /* set on copies for the dead-letter topic: sent as closebridge_reason ... */
    const char *dead_publisher; /* ... closebridge_publisher ... */
    const char *dead_topic;     /* ... and closebridge_topic; each may be NULL */
    bool is_withheld; /* the value is left out because of a field policy: closebridge_withheld */
    struct {
        enum settled_as as;
        const char *reason; /* stable snake_case code, static: unknown_topic, not_authorized,
                               too_large ... */
        int32_t partition;  /* Kafka: where it went; -1 when unknown */
        int64_t offset;     /* -1 when unknown */
    } outcome;
};

enum submit_result {
    SUBMIT_ACCEPTED, /* exactly one on_settled() call follows */
    SUBMIT_SETTLED,  /* `outcome` is set now; no call follows */
    SUBMIT_BUSY,     /* not now (not connected, queue full): offer it again after on_ready() */
};

struct publisher_events {
    /* May run on any thread, also inside submit() or serve(). Must not block or call back into the
     * publisher. */
    void (*on_settled)(void *context, struct record *record);
    void (*on_ready)(void *context); /* after a SUBMIT_BUSY */
    /* The broker is or is not reachable; `reason` is one line for the log. Called on every change,
     * first when known. */
    void (*on_state)(void *context, bool is_up, const char *reason);
    void *context;
};

struct publisher_ops {
    const char *name; /* as written in the configuration */
    /* Borrows `options` and `clock` until destroy(). Does not wait for the broker. Returns owned,
     * NULL on failure. */
    struct publisher *(*create)(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err);
    enum submit_result (*submit)(struct publisher *self, struct record *record);
    /* Dispatcher thread, when `fd` is readable and at least every 200 ms: reports, rebuilds,
     * timers. May be NULL. */
    void (*serve)(struct publisher *self);
    /*
     * Says farewell to the broker, waits at most `timeout_ms`. Unsettled records are given up
     * without a call. False when something hangs that may still read them, or the options: both are
     * to be left in memory. NULL-safe. On the dispatcher's thread or, with nothing else going on,
     * on another.
     */
    bool (*destroy)(struct publisher *self, int64_t timeout_ms);
};

/* First member of every implementation's struct. */
struct publisher {
    const struct publisher_ops *ops;
    struct publisher_events events;
    int fd; /* readable when serve() has something to do; -1 for a publisher with its own thread */
};

#endif
