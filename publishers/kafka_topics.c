#include "publishers/kafka_topics.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/mailbox.h"
#include "publishers/publisher.h"

static size_t bucket_of(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash % KAFKA_TOPIC_BUCKETS;
}

static struct kafka_topic *make_topic(rd_kafka_t *producer, const char *name,
                                      const char **out_reason)
{
    size_t size = strlen(name) + 1;
    struct kafka_topic *topic = calloc(1, sizeof(*topic) + size);

    *out_reason = NULL;
    if (!topic)
        return NULL;
    memcpy(topic->name, name, size);
    topic->handle = rd_kafka_topic_new(producer, name, NULL);
    if (!topic->handle) {
        *out_reason = "invalid_topic"; /* librdkafka's own limit is 512 bytes (TRAPS K7) */
        free(topic);
        return NULL;
    }
    return topic;
}

struct kafka_topic *kafka_topics_get(const struct kafka_topics *topics, const char *name)
{
    struct kafka_topic *topic = topics->buckets[bucket_of(name)];

    while (topic && strcmp(topic->name, name) != 0)
        topic = topic->next;
    return topic;
}

struct kafka_topic *kafka_topics_find(struct kafka_topics *topics, struct rd_kafka_s *producer,
                                      const char *name, const char **out_reason)
{
    struct kafka_topic *topic = kafka_topics_get(topics, name);
    struct kafka_topic **bucket;

    if (topic)
        return topic;
    if (topics->count >= KAFKA_TOPICS_MAX) {
        *out_reason = "too_many_topics";
        return NULL;
    }
    topic = make_topic(producer, name, out_reason);
    if (!topic)
        return NULL;
    bucket = &topics->buckets[bucket_of(name)];
    topic->next = *bucket;
    *bucket = topic;
    topics->count++;
    topics->watched++;
    return topic;
}

void kafka_topics_take(struct kafka_topics *topics, struct kafka_topic *topic)
{
    if (topic->has_taken)
        return;
    topic->has_taken = true;
    topics->watched -= !topic->is_doubtful;
}

void kafka_topics_doubt(struct kafka_topics *topics, struct kafka_topic *topic)
{
    if (topic->is_doubtful)
        return;
    topic->is_doubtful = true;
    topics->watched += topic->has_taken;
}

/* ---- what waits ---- */

bool kafka_topic_is_opening(const struct kafka_topic *topic)
{
    return topic->is_tried && !topic->has_taken;
}

void kafka_topic_wait(struct kafka_topic *topic, struct record *record)
{
    record->node.next = NULL;
    if (topic->last_waiting)
        topic->last_waiting->next = &record->node;
    else
        topic->first_waiting = &record->node;
    topic->last_waiting = &record->node;
}

struct mailbox_node *kafka_topic_take_waiting(struct kafka_topic *topic)
{
    struct mailbox_node *first = topic->first_waiting;

    topic->first_waiting = NULL;
    topic->last_waiting = NULL;
    return first;
}

struct mailbox_node *kafka_topics_take_waiting(struct kafka_topics *topics)
{
    struct mailbox_node *first = NULL;

    for (size_t i = 0; i < KAFKA_TOPIC_BUCKETS; i++) {
        for (struct kafka_topic *topic = topics->buckets[i]; topic; topic = topic->next) {
            if (!topic->last_waiting)
                continue;
            topic->last_waiting->next = first;
            first = kafka_topic_take_waiting(topic);
        }
    }
    return first;
}

void kafka_topics_clear(struct kafka_topics *topics)
{
    for (size_t i = 0; i < KAFKA_TOPIC_BUCKETS; i++) {
        while (topics->buckets[i]) {
            struct kafka_topic *topic = topics->buckets[i];

            topics->buckets[i] = topic->next;
            rd_kafka_topic_destroy(topic->handle);
            free(topic);
        }
    }
    topics->count = 0;
    topics->watched = 0;
}
