/*
 * The parts of the configuration that are more than single values. Each reads its node into the
 * configuration and reports its mistakes; config.c puts them in order.
 *
 * One thread.
 */
#ifndef BRIDGE_CONFIG_CONFIG_PARTS_H
#define BRIDGE_CONFIG_CONFIG_PARTS_H

#include <stdbool.h>

struct catalog_pair;
struct config;
struct config_account;
struct config_entry;
struct config_loader;
struct config_node;
struct error;

/* accounts: config_accounts.c */
void config_load_accounts(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_signature_keys(struct config_loader *loader, const struct config_node *node,
                                void *base);
int config_parse_sync(struct config_loader *loader, const char *value, void *base,
                      struct error *err);
int config_parse_close_url(struct config_loader *loader, const char *value, void *base,
                           struct error *err);
int config_parse_webhook_url(struct config_loader *loader, const char *value, void *base,
                             struct error *err);
void config_account_release(struct config_account *account);

/* listen and control: config_listen.c */
int config_parse_listen_address(struct config_loader *loader, const char *value, void *base,
                                struct error *err);
int config_parse_control_address(struct config_loader *loader, const char *value, void *base,
                                 struct error *err);
int config_parse_health_path(struct config_loader *loader, const char *value, void *base,
                             struct error *err);

/* publishers: config_publishers.c */
void config_load_kafka(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_mqtt(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_create_topics(struct config_loader *loader, const struct config_node *node,
                               void *base);
void config_load_topic_config(struct config_loader *loader, const struct config_node *node,
                              void *base);
int config_parse_mqtt_url(struct config_loader *loader, const char *value, void *base,
                          struct error *err);
int config_parse_mqtt_version(struct config_loader *loader, const char *value, void *base,
                              struct error *err);
void config_publishers_release(struct config *config);

/* topic_map: config_entries.c, what it says about events: config_selectors.c, config_fields.c */
void config_load_entries(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_actions(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_labels(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_filter(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_kafka_target(struct config_loader *loader, const struct config_node *node,
                              void *base);
void config_load_mqtt_target(struct config_loader *loader, const struct config_node *node,
                             void *base);
int config_parse_object_type(struct config_loader *loader, const char *value, void *base,
                             struct error *err);
int config_parse_key(struct config_loader *loader, const char *value, void *base,
                     struct error *err);
int config_parse_format(struct config_loader *loader, const char *value, void *base,
                        struct error *err);
int config_parse_timestamp(struct config_loader *loader, const char *value, void *base,
                           struct error *err);
void config_load_fields(struct config_loader *loader, const struct config_node *node, void *base);
void config_load_field_paths(struct config_loader *loader, const struct config_node *node,
                             void *base);
/* Lets both targets of an entry that was read see its policy. */
void config_give_fields(struct config_loader *loader, const struct config_node *node,
                        struct config_entry *entry);
void config_entry_release(struct config_entry *entry);

/* Checks the selector of an entry against the catalog. */
void config_check_selector(struct config_loader *loader, const struct config_node *node,
                           const struct config_entry *entry);

/* True when the entry's words fit the pair of the catalog, whatever its status and account. */
bool config_selector_fits(const struct config_entry *entry, const struct catalog_pair *pair);

/* Warns of entries that get nothing or publish twice: config_reach.c. The configuration is without
 * mistakes. */
void config_check_reach(struct config_loader *loader);

/* Whether two structs of a mapping have the same: config_diff.c */
bool config_same_listen_address(const void *before, const void *after);
bool config_same_control_address(const void *before, const void *after);
bool config_same_accounts(const void *before, const void *after);
bool config_same_signature_keys(const void *before, const void *after);
bool config_same_sync(const void *before, const void *after);
bool config_same_kafka(const void *before, const void *after);
bool config_same_create_topics(const void *before, const void *after);
bool config_same_topic_config(const void *before, const void *after);
bool config_same_mqtt(const void *before, const void *after);
bool config_same_mqtt_url(const void *before, const void *after);
bool config_same_entries(const void *before, const void *after);
bool config_same_actions(const void *before, const void *after);
bool config_same_labels(const void *before, const void *after);
bool config_same_filter(const void *before, const void *after);
bool config_same_kafka_target(const void *before, const void *after);
bool config_same_mqtt_target(const void *before, const void *after);
bool config_same_fields(const void *before, const void *after);

/* What concerns several parts: config_checks.c */
void config_check(struct config_loader *loader);

#endif
