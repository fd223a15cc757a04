#include "publishers/kafka_topics.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

struct kafka_topic {
    struct kafka_topic *next;
    rd_kafka_topic_t *handle;
    char name[];
};

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
    struct kafka_topic *topic = malloc(sizeof(*topic) + size);

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

struct rd_kafka_topic_s *kafka_topics_find(struct kafka_topics *topics, struct rd_kafka_s *producer,
                                           const char *name, const char **out_reason)
{
    size_t bucket = bucket_of(name);
    struct kafka_topic *topic;

    for (topic = topics->buckets[bucket]; topic; topic = topic->next) {
        if (strcmp(topic->name, name) == 0)
            return topic->handle;
    }
    if (topics->count >= KAFKA_TOPICS_MAX) {
        *out_reason = "too_many_topics";
        return NULL;
    }
    topic = make_topic(producer, name, out_reason);
    if (!topic)
        return NULL;
    topic->next = topics->buckets[bucket];
    topics->buckets[bucket] = topic;
    topics->count++;
    return topic->handle;
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
}
