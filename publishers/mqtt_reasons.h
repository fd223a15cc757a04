/*
 * What MQTT 5 reason codes and libmosquitto's return codes mean for a record.
 */
#ifndef PUBLISHERS_MQTT_REASONS_H
#define PUBLISHERS_MQTT_REASONS_H

#include "publishers/mqtt_publisher.h"
#include "publishers/publisher.h"

/* The reason code of a PUBACK, PUBREC or PUBCOMP. Sets `out_reason` to a static code, NULL for
 * plain success. */
enum settled_as mqtt_reason_class(int reason_code, enum mqtt_no_subscribers no_subscribers,
                                  const char **out_reason);

/* What mosquitto_publish_v5() returned, when it is not success. */
enum settled_as mqtt_publish_error_class(int return_code, const char **out_reason);

#endif
