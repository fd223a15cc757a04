/*
 * The Kafka topics that a topic map can publish on, worked out from the configuration alone: of
 * every pair that an entry takes, and the dead-letter topic.
 *
 * Threads: none of its own.
 */
#ifndef BRIDGE_CONFIG_TOPIC_NAMES_H
#define BRIDGE_CONFIG_TOPIC_NAMES_H

#include <stddef.h>

struct config;

struct topic_names {
    char **names; /* each once, sorted */
    size_t count;
};

/* Does not refer to `config` once it is made. Zero-initialised is fine for topic_names_release().
 */
struct topic_names topic_names_of(const struct config *config);
void topic_names_release(struct topic_names *names);

#endif
