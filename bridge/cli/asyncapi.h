/*
 * The AsyncAPI 3.0 document of a configuration: for people and programs that read the topics.
 *
 * It describes the bridge, which sends: brokers as servers (without credentials), topics as
 * channels, and as messages the pairs of the catalog that each gets, with content type, key,
 * headers and payload. The schemas are part of the document, so that every reference in it
 * resolves.
 *
 * Threads: none of its own.
 */
#ifndef BRIDGE_CLI_ASYNCAPI_H
#define BRIDGE_CLI_ASYNCAPI_H

struct buf;
struct config;

/* Appends the document to `out`. */
void asyncapi_write(const struct config *config, struct buf *out);

#endif
