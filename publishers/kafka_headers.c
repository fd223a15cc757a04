#include "publishers/kafka_headers.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

/* How many of the latest are looked at: with events of several kinds the last rarely fits. */
enum { LOOK_AT = 8 };

static rd_kafka_headers_t *make(const struct kafka_header_list *list)
{
    rd_kafka_headers_t *made = rd_kafka_headers_new(list->count);

    for (size_t i = 0; made && i < list->count; i++) {
        struct text value = list->headers[i].value;

        if (rd_kafka_header_add(made, list->headers[i].name, -1, value.data, (ssize_t)value.size) !=
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_headers_destroy(made);
            return NULL;
        }
    }
    return made;
}

/*
 * Writes the values of `list` into headers of the same names and lengths; false leaves them as they
 * are. librdkafka shows values as const because others may read them; these are nobody else's, and
 * each lies in memory of its own (rdkafka_header.c).
 */
static bool rewrite(const rd_kafka_headers_t *old, const struct kafka_header_list *list)
{
    void *values[KAFKA_HEADERS_MAX];

    if (rd_kafka_header_cnt(old) != list->count)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        const char *name;
        const void *value;
        size_t size;

        if (rd_kafka_header_get_all(old, i, &name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
            size != list->headers[i].value.size || strcmp(name, list->headers[i].name) != 0)
            return false;
        values[i] = (void *)(uintptr_t)value;
    }
    for (size_t i = 0; i < list->count; i++)
        memcpy(values[i], list->headers[i].value.data, list->headers[i].value.size);
    return true;
}

rd_kafka_headers_t *kafka_headers_make(struct kafka_headers *headers,
                                       const struct kafka_header_list *list)
{
    for (size_t i = headers->count; i > 0 && i + LOOK_AT > headers->count; i--) {
        rd_kafka_headers_t *old = headers->kept[i - 1];

        if (!rewrite(old, list))
            continue;
        headers->kept[i - 1] = headers->kept[--headers->count];
        return old;
    }
    if (headers->count > 0) /* so that what fits nothing any more does not stay for ever */
        rd_kafka_headers_destroy(headers->kept[--headers->count]);
    return make(list);
}

void kafka_headers_keep(struct kafka_headers *headers, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *old;

    if (headers->count < KAFKA_HEADERS_KEPT &&
        rd_kafka_message_detach_headers((rd_kafka_message_t *)(uintptr_t)message, &old) ==
            RD_KAFKA_RESP_ERR_NO_ERROR)
        headers->kept[headers->count++] = old;
}

void kafka_headers_release(struct kafka_headers *headers)
{
    while (headers->count > 0)
        rd_kafka_headers_destroy(headers->kept[--headers->count]);
}
