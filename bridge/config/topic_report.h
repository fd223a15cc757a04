/*
 * The effective topic map: for every pair of object type and action where its events go, worked out
 * from the configuration alone. `check`, `topics` and GET /control/topic-map show it.
 *
 * The pairs are those of the catalog and those outside it that an entry names. A pair that goes the
 * same ways for every account is one row, else it has a row for each account.
 *
 * Threads: none of its own.
 */
#ifndef BRIDGE_CONFIG_TOPIC_REPORT_H
#define BRIDGE_CONFIG_TOPIC_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/config/topic_map.h"

struct buf;
struct catalog_pair;
struct config;

/* Where an entry sends the events of a pair. */
struct topic_report_destination {
    const struct config_entry *entry;
    const struct config_target *target;
    enum publisher_index publisher;
    char *topic;   /* {lead_id} and {object_id} stand for values of the event; NULL: see refusal */
    char *refusal; /* why the rules of topics refuse the name of this pair */
    bool is_conditional; /* not every event of the pair: a filter, or a fallback beside others */
};

struct topic_report_row {
    const char *object_type;
    const char *action;
    const struct catalog_pair *known;              /* NULL: outside the catalog */
    const char *account;                           /* NULL: every account */
    bool is_subscribed;                            /* the bridge asks Close for it */
    char *extra_filter;                            /* JSON that Close is to apply; NULL: none */
    struct topic_report_destination *destinations; /* in the order of the file */
    size_t count;                                  /* 0: it goes nowhere */
};

struct topic_report {
    struct topic_report_row *rows;
    size_t count;
};

/* Borrows `config`, whose entries are complete. Returns owned (topic_report_free), never NULL. */
struct topic_report *topic_report_make(const struct config *config);
void topic_report_free(struct topic_report *report);

/* As written in the configuration. */
const char *topic_report_publisher_name(enum publisher_index publisher);

/* "documented" ... as in the catalog, "unlisted" outside it. */
const char *topic_report_status(const struct topic_report_row *row);

/* Appends {"pairs":[...]}, as docs/control.openapi.yaml describes it. */
void topic_report_append_json(const struct topic_report *report, struct buf *json);

#endif
