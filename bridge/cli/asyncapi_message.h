/*
 * The messages of the AsyncAPI document: what consumers of a topic find in a record.
 *
 * Threads: none of its own.
 */
#ifndef BRIDGE_CLI_ASYNCAPI_MESSAGE_H
#define BRIDGE_CLI_ASYNCAPI_MESSAGE_H

struct asyncapi_message;
struct config;
struct json_writer;

/* Each writes one member of a channel's `messages`. */
void asyncapi_message_write(struct json_writer *writer, const struct config *config,
                            const struct asyncapi_message *message);
void asyncapi_message_write_dead_letter(struct json_writer *writer);
void asyncapi_message_write_status(struct json_writer *writer);

#endif
