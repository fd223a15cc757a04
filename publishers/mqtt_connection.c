#include "publishers/mqtt_connection.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mosquitto.h>
#include <mqtt_protocol.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "publishers/mqtt_publisher.h"
#include "publishers/publisher.h"
#include "schemas/envelope.h"

enum {
    CONNACK_MS = 10000,
    /* libmosquitto asks after `keepalive` without a word, and would wait as long again. */
    PING_ANSWER_MS = 4000,
    MAX_INFLIGHT = 65535,
    MAX_VALUE = 2048,
    MISC_MS = 500,
};

struct mqtt_connection {
    const struct mqtt_options *options;
    const struct clock *clock;
    struct mqtt_connection_events events;
    struct mosquitto *client;
    bool is_connected;
    bool is_over;
    char why[160]; /* with is_over */
    int64_t connack_by_ms;
    int64_t heard_ms; /* when something last came */
    int64_t next_misc_ms;
};

static void end(struct mqtt_connection *connection, const char *why)
{
    if (!connection->is_over)
        snprintf(connection->why, sizeof(connection->why), "%s", why);
    connection->is_over = true;
}

static const char *error_of(int code)
{
    return code == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(code);
}

static void on_connect(struct mosquitto *client, void *context, int code, int flags,
                       const mosquitto_property *properties)
{
    struct mqtt_connection *connection = context;
    uint16_t receive_maximum = MAX_INFLIGHT;
    char why[160];

    (void)client;
    (void)flags;
    if (code != 0) {
        snprintf(why, sizeof(why), "the broker refuses the connection: %s",
                 connection->options->version == 5 ? mosquitto_reason_string(code)
                                                   : mosquitto_connack_string(code));
        end(connection, why);
        return;
    }
    mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
    connection->is_connected = true;
    if (connection->options->status_topic)
        mosquitto_publish(connection->client, NULL, connection->options->status_topic, 6, "online",
                          1, true);
    connection->events.on_connected(connection->events.context, receive_maximum);
}

static void on_disconnect(struct mosquitto *client, void *context, int code,
                          const mosquitto_property *properties)
{
    struct mqtt_connection *connection = context;

    (void)client;
    (void)properties;
    end(connection, connection->options->version == 5 && code >= 0x80
                        ? mosquitto_reason_string(code)
                        : error_of(code));
}

static void on_publish(struct mosquitto *client, void *context, int mid, int reason_code,
                       const mosquitto_property *properties)
{
    struct mqtt_connection *connection = context;

    (void)client;
    (void)properties;
    connection->events.on_acknowledged(connection->events.context, mid, reason_code);
}

static int set_tls(struct mqtt_connection *connection)
{
    const struct mqtt_options *options = connection->options;
    int rc;

    if (!options->use_tls)
        return MOSQ_ERR_SUCCESS;
    rc = mosquitto_tls_set(connection->client, options->ca, options->ca ? NULL : "/etc/ssl/certs",
                           options->certificate, options->key, NULL);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_tls_opts_set(connection->client, 1 /* verify */, "tlsv1.2", NULL);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_tls_insecure_set(connection->client, false);
    return rc;
}

static int configure(struct mqtt_connection *connection)
{
    const struct mqtt_options *options = connection->options;
    struct mosquitto *client = connection->client;
    int rc;

    mosquitto_connect_v5_callback_set(client, on_connect);
    mosquitto_disconnect_v5_callback_set(client, on_disconnect);
    mosquitto_publish_v5_callback_set(client, on_publish);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION,
                         options->version == 5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    if (options->version == 5)
        mosquitto_int_option(client, MOSQ_OPT_SEND_MAXIMUM, MAX_INFLIGHT);
    else
        mosquitto_max_inflight_messages_set(client, options->window);
    rc = options->username ? mosquitto_username_pw_set(client, options->username, options->password)
                           : MOSQ_ERR_SUCCESS;
    if (rc == MOSQ_ERR_SUCCESS && options->status_topic)
        rc = mosquitto_will_set(client, options->status_topic, 7, "offline", 1, true);
    return rc == MOSQ_ERR_SUCCESS ? set_tls(connection) : rc;
}

struct mqtt_connection *mqtt_connection_open(const struct mqtt_options *options,
                                             const struct clock *clock,
                                             struct mqtt_connection_events events,
                                             struct error *err)
{
    struct mqtt_connection *connection = calloc(1, sizeof(*connection));
    int rc = MOSQ_ERR_NOMEM;

    if (connection) {
        connection->options = options;
        connection->clock = clock;
        connection->events = events;
        connection->client =
            mosquitto_new(options->client_id && options->client_id[0] ? options->client_id : NULL,
                          true, connection);
    }
    if (connection && connection->client)
        rc = configure(connection);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_connect_bind_v5(connection->client, options->host, options->port,
                                       (int)(options->keepalive_ms / 1000), NULL, NULL);
    if (rc == MOSQ_ERR_SUCCESS) {
        connection->connack_by_ms = clock_monotonic_ms(clock) + CONNACK_MS;
        return connection;
    }
    error_set(err, ERROR_TRANSIENT, "%s", error_of(rc));
    mqtt_connection_free(connection, false);
    return NULL;
}

/* Whoever reads the status topic learns that this was no accident. */
static void say_goodbye(struct mqtt_connection *connection)
{
    if (connection->options->status_topic)
        mosquitto_publish(connection->client, NULL, connection->options->status_topic, 7, "offline",
                          0, true);
    mosquitto_disconnect_v5(connection->client, MQTT_RC_NORMAL_DISCONNECTION, NULL);
    for (int i = 0; i < 100 && mosquitto_want_write(connection->client); i++) {
        if (mosquitto_loop_write(connection->client, 1) != MOSQ_ERR_SUCCESS)
            return;
    }
}

void mqtt_connection_free(struct mqtt_connection *connection, bool is_polite)
{
    if (!connection)
        return;
    if (is_polite && connection->is_connected && !connection->is_over)
        say_goodbye(connection);
    if (connection->client)
        mosquitto_destroy(connection->client);
    free(connection);
}

int mqtt_connection_socket(struct mqtt_connection *connection, bool *out_wants_write)
{
    *out_wants_write = mosquitto_want_write(connection->client);
    return mosquitto_socket(connection->client);
}

/* Fails on what is no TCP socket any more, where nothing is sent either. */
static void set_cork(struct mqtt_connection *connection, int is_on)
{
    (void)setsockopt(mosquitto_socket(connection->client), IPPROTO_TCP, TCP_CORK, &is_on,
                     sizeof(is_on));
}

void mqtt_connection_hold(struct mqtt_connection *connection)
{
    set_cork(connection, 1);
}

void mqtt_connection_release(struct mqtt_connection *connection)
{
    set_cork(connection, 0);
}

int mqtt_connection_turn(struct mqtt_connection *connection, bool can_read, bool can_write,
                         struct error *err)
{
    int64_t now_ms = clock_monotonic_ms(connection->clock);
    int rc = MOSQ_ERR_SUCCESS;

    if (can_read || !connection->is_connected)
        connection->heard_ms = now_ms;
    if (can_read)
        rc = mosquitto_loop_read(connection->client, 1);
    if (rc == MOSQ_ERR_SUCCESS && can_write)
        rc = mosquitto_loop_write(connection->client, 1);
    if (rc == MOSQ_ERR_SUCCESS && now_ms >= connection->next_misc_ms) {
        rc = mosquitto_loop_misc(connection->client);
        connection->next_misc_ms = now_ms + MISC_MS;
    }
    if (rc != MOSQ_ERR_SUCCESS)
        end(connection, error_of(rc));
    if (!connection->is_connected && now_ms >= connection->connack_by_ms)
        end(connection, "the broker does not answer CONNECT");
    if (now_ms - connection->heard_ms > connection->options->keepalive_ms + PING_ANSWER_MS)
        end(connection, "the broker is silent");
    if (connection->is_over)
        return error_set(err, ERROR_TRANSIENT, "%s", connection->why);
    return 0;
}

static int add_property(mosquitto_property **properties, const char *name, struct text value)
{
    char terminated[MAX_VALUE];

    if (value.size == 0 || value.size >= sizeof(terminated))
        return MOSQ_ERR_SUCCESS;
    memcpy(terminated, value.data, value.size);
    terminated[value.size] = '\0';
    return mosquitto_property_add_string_pair(properties, MQTT_PROP_USER_PROPERTY, name,
                                              terminated);
}

static int add_attributes(mosquitto_property **properties, const struct record *record)
{
    bool is_binary = format_is_binary_mode(record->format);
    struct envelope envelope;
    int rc = MOSQ_ERR_SUCCESS;

    envelope_build(&envelope, record->event, record->is_replay);
    for (size_t i = 0; i < envelope.count && rc == MOSQ_ERR_SUCCESS; i++) {
        const struct envelope_attribute *attribute = &envelope.attributes[i];

        if (is_binary || attribute->is_trace_context)
            rc = add_property(properties, attribute->name, attribute->value);
    }
    return rc;
}

static int make_properties(const struct mqtt_connection *connection, const struct record *record,
                           mosquitto_property **properties)
{
    int rc = mosquitto_property_add_string(properties, MQTT_PROP_CONTENT_TYPE,
                                           format_content_type(record->format, true));

    if (rc == MOSQ_ERR_SUCCESS && record->format != FORMAT_MSGPACK)
        rc = mosquitto_property_add_byte(properties, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1);
    if (rc == MOSQ_ERR_SUCCESS && connection->options->message_expiry_s > 0)
        rc = mosquitto_property_add_int32(properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
                                          connection->options->message_expiry_s);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = add_attributes(properties, record);
    return rc;
}

int mqtt_connection_publish(struct mqtt_connection *connection, const struct record *record,
                            int *out_mid)
{
    mosquitto_property *properties = NULL;
    int rc = MOSQ_ERR_SUCCESS;

    if (connection->options->version == 5)
        rc = make_properties(connection, record, &properties);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_publish_v5(connection->client, out_mid, record->topic,
                                  (int)record->value.size, record->value.data, record->qos,
                                  record->retain, properties);
    mosquitto_property_free_all(&properties);
    return rc;
}
