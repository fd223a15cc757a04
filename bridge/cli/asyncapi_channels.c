#include "bridge/cli/asyncapi_channels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"

void asyncapi_channels_release(struct asyncapi_channels *channels)
{
    for (size_t i = 0; i < channels->count; i++) {
        struct asyncapi_channel *channel = &channels->channels[i];

        for (size_t m = 0; m < channel->count; m++)
            free(channel->messages[m].name);
        free(channel->messages);
        free(channel->id);
    }
    free(channels->channels);
    *channels = (struct asyncapi_channels){0};
}

/* Makes room for one more element. Never NULL. */
static void *grown(void *array, size_t count, size_t size)
{
    array = realloc(array, (count + 1) * size);
    if (!array)
        abort(); /* no memory: see alloc.h */
    return array;
}

/* `name`, with a number behind it when `is_taken` says so. Returns owned. */
static char *unique(const char *name, bool (*is_taken)(const void *context, const char *name),
                    const void *context)
{
    struct buf made = {0};

    buf_append_string(&made, name);
    for (unsigned number = 2; is_taken(context, buf_text(&made).data); number++) {
        buf_clear(&made);
        buf_printf(&made, "%s-%u", name, number);
    }
    if (made.failed)
        abort(); /* no memory: see alloc.h */
    return made.data;
}

/* ---- channels ---- */

/* close/{lead_id}/note becomes mqtt.close.lead_id.note. Returns owned. */
static char *plain_id(enum publisher_index publisher, const char *address)
{
    struct buf id = {0};

    buf_printf(&id, "%s.", topic_report_publisher_name(publisher));
    for (const char *c = address; *c; c++) {
        if (*c == '/')
            buf_append_char(&id, '.');
        else if (*c != '{' && *c != '}')
            buf_append_char(&id, strchr("_-.", *c) || ((*c | 32) >= 'a' && (*c | 32) <= 'z') ||
                                         (*c >= '0' && *c <= '9')
                                     ? *c
                                     : '_');
    }
    if (id.failed)
        abort(); /* no memory: see alloc.h */
    return id.data;
}

static bool has_id(const void *channels, const char *id)
{
    const struct asyncapi_channels *all = channels;

    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->channels[i].id, id) == 0)
            return true;
    }
    return false;
}

/* Topics such as a/b and a.b differ, their plain ids do not. Returns owned. */
static char *unique_id(const struct asyncapi_channels *channels, enum publisher_index publisher,
                       const char *address)
{
    char *plain = plain_id(publisher, address);
    char *id = unique(plain, has_id, channels);

    free(plain);
    return id;
}

static struct asyncapi_channel *channel_of(struct asyncapi_channels *channels,
                                           enum publisher_index publisher, const char *address)
{
    struct asyncapi_channel *channel;

    for (size_t i = 0; i < channels->count; i++) {
        channel = &channels->channels[i];
        if (channel->publisher == publisher && strcmp(channel->address, address) == 0)
            return channel;
    }
    channels->channels = grown(channels->channels, channels->count, sizeof(*channels->channels));
    channel = &channels->channels[channels->count];
    *channel = (struct asyncapi_channel){
        .id = unique_id(channels, publisher, address), .publisher = publisher, .address = address};
    channels->count++;
    return channel;
}

/* ---- messages ---- */

static bool is_same_pair(const struct topic_report_row *a, const struct topic_report_row *b)
{
    return strcmp(a->object_type, b->object_type) == 0 && strcmp(a->action, b->action) == 0;
}

/* True when consumers cannot tell them apart, as with rows that differ only by their account. */
static bool is_same_message(const struct topic_report_destination *a,
                            const struct topic_report_destination *b)
{
    return a->target == b->target ||
           (a->target->format == b->target->format &&
            strcmp(a->target->key_source, b->target->key_source) == 0 &&
            a->target->tombstone == b->target->tombstone && a->target->qos == b->target->qos &&
            a->target->retain == b->target->retain && a->entry->filter == b->entry->filter &&
            a->entry->fields == b->entry->fields);
}

static bool has_message(const struct asyncapi_channel *channel, const struct topic_report_row *row,
                        const struct topic_report_destination *destination)
{
    for (size_t i = 0; i < channel->count; i++) {
        const struct asyncapi_message *message = &channel->messages[i];

        if (is_same_pair(message->row, row) && is_same_message(message->destination, destination))
            return true;
    }
    return false;
}

static bool has_name(const void *channel, const char *name)
{
    const struct asyncapi_channel *its = channel;

    for (size_t i = 0; i < its->count; i++) {
        if (strcmp(its->messages[i].name, name) == 0)
            return true;
    }
    return false;
}

static void add_message(struct asyncapi_channel *channel, const struct topic_report_row *row,
                        const struct topic_report_destination *destination)
{
    char pair[300]; /* of two names of at most 128 bytes */

    if (has_message(channel, row, destination))
        return;
    snprintf(pair, sizeof(pair), "%s.%s", row->object_type, row->action);
    channel->messages = grown(channel->messages, channel->count, sizeof(*channel->messages));
    channel->messages[channel->count] = (struct asyncapi_message){
        .name = unique(pair, has_name, channel), .row = row, .destination = destination};
    channel->count++;
}

void asyncapi_channels_make(struct asyncapi_channels *channels, const struct topic_report *report)
{
    *channels = (struct asyncapi_channels){0};
    for (size_t i = 0; i < report->count; i++) {
        const struct topic_report_row *row = &report->rows[i];

        for (size_t d = 0; d < row->count; d++) {
            const struct topic_report_destination *destination = &row->destinations[d];

            if (destination->topic)
                add_message(channel_of(channels, destination->publisher, destination->topic), row,
                            destination);
        }
    }
}
