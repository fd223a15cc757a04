/*
 * MQTT 5 (or 3.1.1), through libmosquitto, which is driven by our own poll loop in one thread: the
 * library's own loop never connects when the broker was down at first, ends at a refused CONNACK,
 * and breaks at descriptor 1024 (TRAPS M1-M3).
 *
 * A record is settled by PUBACK (QoS 1), PUBCOMP (QoS 2) or by having been sent (QoS 0).
 */
#ifndef PUBLISHERS_MQTT_PUBLISHER_H
#define PUBLISHERS_MQTT_PUBLISHER_H

#include <stdbool.h>
#include <stdint.h>

struct publisher_ops;

enum mqtt_no_subscribers {
    MQTT_NO_SUBSCRIBERS_OK,
    MQTT_NO_SUBSCRIBERS_RETRY,
    MQTT_NO_SUBSCRIBERS_DEAD_LETTER
};

struct mqtt_options {
    char *host;
    uint16_t port;
    bool use_tls;
    int version;               /* 5 or 3 (3.1.1) */
    char *username;            /* NULL: none */
    char *password;            /* NULL: none */
    char *ca;                  /* file; NULL with TLS: the system's */
    char *certificate;         /* file; NULL: none */
    char *key;                 /* file; NULL: none */
    int64_t keepalive_ms;      /* */
    uint32_t window;           /* records in flight, at most 1,000 (TRAPS M5) */
    uint32_t message_expiry_s; /* 0: none */
    char *client_id;           /* "": assigned by the broker */
    enum mqtt_no_subscribers no_subscribers;
    char *status_topic;     /* NULL: none; retained "online" and "offline", with a will */
    int64_t ack_timeout_ms; /* a record unacknowledged for so long ends the connection */
};

extern const struct publisher_ops mqtt_publisher_ops;

#endif
