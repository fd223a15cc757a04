#include "bridge/control/control_journal.h"

#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/control/control.h"
#include "bridge/control/control_events.h"
#include "bridge/control/control_letters.h"
#include "bridge/control/control_replay.h"
#include "bridge/control/control_worker.h"
#include "bridge/http/http_server.h"

struct control_journal {
    struct control_worker *worker;
    struct control_letters *letters;
    struct control_events *events;
    struct control_replay *replay;
};

/* In broker mode nothing is on disk that could be looked at, sent again or dropped. */
static void refuse(void *context, struct http_request *request)
{
    (void)context;
    http_respond_error(request, 409, "no_journal",
                       "With acknowledge: broker the bridge keeps no events.");
}

static void add_refusals(struct control *control)
{
    static const struct control_route routes[] = {
        {"GET", "/control/dead-letters", refuse, NULL},
        {"DELETE", "/control/dead-letters", refuse, NULL},
        {"POST", "/control/dead-letters/retry", refuse, NULL},
        {"GET", "/control/events", refuse, NULL},
        {"POST", "/control/replay", refuse, NULL},
        {"GET", "/control/replay", refuse, NULL},
        {"DELETE", "/control/replay", refuse, NULL},
    };

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        control_add(control, &routes[i]);
}

static int open_parts(struct control_journal *self, const struct control_journal_options *options,
                      struct error *err)
{
    self->worker = control_worker_start(err);
    if (!self->worker)
        return -1;
    self->letters =
        control_letters_new(&(struct control_letters_options){.control = options->control,
                                                              .worker = self->worker,
                                                              .journal = options->journal,
                                                              .dispatcher = options->dispatcher,
                                                              .metrics = options->metrics},
                            err);
    if (!self->letters)
        return -1;
    self->events = control_events_new(
        &(struct control_events_options){.control = options->control,
                                         .worker = self->worker,
                                         .journal = options->journal,
                                         .dispatcher = options->dispatcher,
                                         .clock = options->clock,
                                         .config = options->config,
                                         .config_context = options->config_context},
        err);
    if (!self->events)
        return -1;
    self->replay =
        control_replay_new(&(struct control_replay_options){.control = options->control,
                                                            .worker = self->worker,
                                                            .journal = options->journal,
                                                            .dispatcher = options->dispatcher,
                                                            .clock = options->clock},
                           err);
    return self->replay ? 0 : -1;
}

struct control_journal *control_journal_new(const struct control_journal_options *options,
                                            struct error *err)
{
    struct control_journal *self = alloc_zeroed(1, sizeof(*self));

    if (!options->journal) {
        add_refusals(options->control);
        return self;
    }
    if (open_parts(self, options, err) == 0)
        return self;
    control_journal_free(self);
    return NULL;
}

void control_journal_stop(struct control_journal *self)
{
    if (self)
        control_worker_stop(self->worker);
}

void control_journal_free(struct control_journal *self)
{
    if (!self)
        return;
    control_letters_free(self->letters);
    control_events_free(self->events);
    control_replay_free(self->replay);
    control_worker_free(self->worker);
    free(self);
}
