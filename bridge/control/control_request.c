#include "bridge/control/control_request.h"

#include "bridge/base/text.h"

void control_append_error(struct buf *json, const char *code, const char *message)
{
    buf_printf(json, "{\"error\":\"%s\",\"message\":", code);
    buf_append_json_string(json, text_of(message));
    buf_append_char(json, '}');
}

static void on_resumed(struct http_deferred *deferred)
{
    struct control_request *request = (struct control_request *)deferred;

    if (deferred->request)
        http_respond(
            deferred->request,
            &(struct http_response){.status = request->status, .body = buf_text(&request->answer)});
    buf_release(&request->answer);
}

void *control_request_new(struct http_request *http, size_t size)
{
    return http_defer(http, size, on_resumed);
}

void control_request_fail(struct control_request *request, int status, const char *code,
                          const char *message)
{
    request->status = status;
    buf_clear(&request->answer);
    control_append_error(&request->answer, code, message);
}

void control_request_finish(struct control_request *request)
{
    if (request->answer.failed)
        control_request_fail(request, 503, "out_of_memory", "There is no memory for the answer.");
    http_resume(&request->deferred);
}

void control_inbox_init(struct control_inbox *inbox, struct wakeup *wakeup)
{
    mailbox_init(&inbox->requests, wakeup);
    pthread_mutex_init(&inbox->lock, NULL);
    inbox->is_closed = false;
}

void control_inbox_release(struct control_inbox *inbox)
{
    pthread_mutex_destroy(&inbox->lock);
}

void control_inbox_push(struct control_inbox *inbox, struct control_request *request)
{
    pthread_mutex_lock(&inbox->lock);
    if (inbox->is_closed) {
        control_request_fail(request, 503, "stopping", "The bridge stops.");
        control_request_finish(request);
    } else {
        mailbox_push(&inbox->requests, &request->node);
    }
    pthread_mutex_unlock(&inbox->lock);
}

void control_inbox_serve(struct control_inbox *inbox,
                         void (*serve)(void *context, struct control_request *request),
                         void *context)
{
    struct mailbox_node *node = mailbox_take(&inbox->requests);

    while (node) {
        struct control_request *request = container_of(node, struct control_request, node);

        node = node->next;
        serve(context, request);
    }
}

void control_inbox_close(struct control_inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->is_closed = true;
    pthread_mutex_unlock(&inbox->lock);
}
