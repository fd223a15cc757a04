/*
 * How a replay stands, as the control listener tells it.
 *
 * A pure function: any thread.
 */
#ifndef BRIDGE_DISPATCHER_REPLAY_REPORT_H
#define BRIDGE_DISPATCHER_REPLAY_REPORT_H

struct buf;
struct replay_progress;

/* Appends the JSON object that docs/control.openapi.yaml calls Replay. */
void replay_report_append(const struct replay_progress *progress, struct buf *json);

#endif
