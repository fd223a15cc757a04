/*
 * Values as people write them: 8MiB, 72h, 0.0.0.0:8080, ./state.
 *
 * Pure functions, any thread. Errors are half a sentence that follows the value: "is not ...".
 */
#ifndef BRIDGE_CONFIG_CONFIG_VALUES_H
#define BRIDGE_CONFIG_CONFIG_VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct error;

enum { CONFIG_SHOWN_SIZE = 32 };

/* "8MiB", "64KiB", "1GiB", "100". */
int config_value_bytes(struct text text, uint64_t *out_bytes, struct error *err);

/* "500ms", "10s", "5m", "72h", "4d", "0". */
int config_value_duration(struct text text, int64_t *out_ms, struct error *err);

/* "true" or "false". */
int config_value_bool(struct text text, bool *out_value, struct error *err);

/* The shortest exact way to write a value, into CONFIG_SHOWN_SIZE bytes. */
void config_value_show_bytes(uint64_t bytes, char *out);
void config_value_show_duration(int64_t ms, char *out);

/* "host:port", "[::1]:port", ":port" (every address). `out_host` is owned (free). */
int config_value_address(struct text text, char **out_host, uint16_t *out_port, struct error *err);

/* True for localhost, 127.0.0.0/8 and ::1. */
bool config_value_is_loopback(const char *host);

/*
 * "http://host[:port][/path]" or https. `out_host` is owned (free); an http address that is not
 * this machine is up to the caller.
 */
int config_value_url(struct text text, bool *out_is_https, char **out_host, struct error *err);

/* `path`, relative paths taken from `directory`. Returns owned (free), NULL without memory. */
char *config_value_path(const char *path, const char *directory);

#endif
