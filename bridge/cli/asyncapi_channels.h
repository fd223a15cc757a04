/*
 * The effective topic map by topic: the channels of the AsyncAPI document and the messages of each.
 *
 * Threads: none of its own.
 */
#ifndef BRIDGE_CLI_ASYNCAPI_CHANNELS_H
#define BRIDGE_CLI_ASYNCAPI_CHANNELS_H

#include <stddef.h>

#include "bridge/config/topic_map.h"

struct topic_report;
struct topic_report_destination;
struct topic_report_row;

/* What one entry publishes of one pair. */
struct asyncapi_message {
    char *name; /* lead.created; with a number behind it where entries differ */
    const struct topic_report_row *row;
    const struct topic_report_destination *destination;
};

struct asyncapi_channel {
    char *id; /* kafka.close.lead: the publisher and the topic, of letters, digits, _, - and dots */
    enum publisher_index publisher;
    const char *address; /* with {lead_id} and {object_id} where the topic depends on them */
    struct asyncapi_message *messages;
    size_t count;
};

struct asyncapi_channels {
    struct asyncapi_channel *channels; /* in the order of the report */
    size_t count;
};

/* Borrows `report` until they are released with asyncapi_channels_release(). */
void asyncapi_channels_make(struct asyncapi_channels *channels, const struct topic_report *report);
void asyncapi_channels_release(struct asyncapi_channels *channels);

#endif
