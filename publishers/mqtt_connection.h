/*
 * One connection to an MQTT broker, from connecting to its end: a libmosquitto instance that is
 * never used twice, so that nothing of an old connection (queued messages, message ids) reaches a
 * new one.
 *
 * Threads: one; callbacks run inside mqtt_connection_turn() and mqtt_connection_publish().
 */
#ifndef PUBLISHERS_MQTT_CONNECTION_H
#define PUBLISHERS_MQTT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct error;
struct mqtt_connection; /* opaque: defined in mqtt_connection.c */
struct mqtt_options;
struct record;

struct mqtt_connection_events {
    /* The broker took us. `receive_maximum`: unacknowledged publishes it allows. */
    void (*on_connected)(void *context, uint32_t receive_maximum);
    /* Message `mid` is done; `reason_code` is MQTT 5's. For QoS 0 it may come inside
     * mqtt_connection_publish(). */
    void (*on_acknowledged)(void *context, int mid, int reason_code);
    void *context;
};

/* Resolves the name and connects, which can block. Returns owned (mqtt_connection_free), NULL when
 * it cannot. */
struct mqtt_connection *mqtt_connection_open(const struct mqtt_options *options,
                                             const struct clock *clock,
                                             struct mqtt_connection_events events,
                                             struct error *err);

/* Says "offline" and DISCONNECT when `is_polite`, closes, frees. */
void mqtt_connection_free(struct mqtt_connection *connection, bool is_polite);

/* The socket to poll, -1 when it is gone, and whether it wants to be written. */
int mqtt_connection_socket(struct mqtt_connection *connection, bool *out_wants_write);

/* Reads, writes, keeps alive. -1 when the connection is over: `err` says why. */
int mqtt_connection_turn(struct mqtt_connection *connection, bool can_read, bool can_write,
                         struct error *err);

/* Between the two the kernel keeps what does not fill a packet, so that small messages that are
 * published together share packets. */
void mqtt_connection_hold(struct mqtt_connection *connection);
void mqtt_connection_release(struct mqtt_connection *connection);

/* Publishes; returns libmosquitto's return code and the message id. */
int mqtt_connection_publish(struct mqtt_connection *connection, const struct record *record,
                            int *out_mid);

#endif
