"""Replay from the journal: what consumers lost is published again, marked, in order, behind the live events."""
import json
import signal
import threading
import time

from tests.e2e.openapi import check_against_openapi
from tests.e2e.terminal import Terminal
from tests.peers.process import free_port, wait_until


def start(bridge, query):
    return bridge.control("/control/replay?" + query, "POST")


def progress(bridge):
    answer = bridge.control("/control/replay")
    assert answer.status == 200, answer
    check_against_openapi("Replay", answer.json)
    return answer.json


def wait_ended(bridge, timeout=60):
    shown = {}

    def has_ended():
        shown.update(progress(bridge))
        return shown["state"] != "running"
    wait_until(has_ended, timeout, lambda: f"the replay ends: {shown}")
    return shown


def replay(bridge, query):
    """A whole one. Returns how it went."""
    answer = start(bridge, query)
    assert answer.status == 202, answer
    return wait_ended(bridge)


def is_replayed(record):
    return record.headers.get("ce_closereplay") == "true"


def replayed(records):
    return [record.event_id for record in records if is_replayed(record)]


def live(records):
    return [record.event_id for record in records if not is_replayed(record)]


def post_many(bridge, events, threads=4):
    """From several connections at once; each keeps the order of its own."""
    def post(share):
        for event in share:
            assert bridge.close.post(event).status == 200
    workers = [threading.Thread(target=post, args=(events[number::threads],)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def by_lead(records):
    """The ids of each lead's events, in the order of their partition."""
    leads = {}
    for record in records:
        leads.setdefault(record.key, []).append(record.event_id)
    return leads


def moment():
    """A time between what came before and what comes after, as the bridge keeps times: in milliseconds."""
    now = int(time.time() * 1000) + 1
    wait_until(lambda: time.time() * 1000 > now, 5, "the next millisecond", interval=0.001)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000)) + f".{now % 1000:03d}Z"


def test_lost_events_come_again_by_type_publisher_topic_account_and_time(kafka, mosquitto, make_bridge, topic):
    kafka.create_topics(topic + "-activity")  # one partition, so that its order shows
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.config["accounts"].append({**bridge.config["accounts"][0], "name": "second"})
    bridge.start(topic_map=[
        {"object_type": "lead", "kafka": {"topic": topic}, "mqtt": {"topic": topic + "/lead", "retain": True}},
        {"object_type": "lead", "kafka": {"topic": topic + "-ce", "format": "cloudevents"}},
        {"object_type": "activity.*", "kafka": {"topic": topic + "-activity"}}])
    subscriber = mosquitto.subscribe(topic + "/#")
    leads = [bridge.event(lead_id=f"lead_{number % 5}") for number in range(40)]
    notes = [bridge.event("activity.note") for _ in range(3)]
    begin = moment()
    for event in leads[:20]:
        assert bridge.post_signed(event).json["status"] == "accepted"
    middle = moment()
    for event in leads[20:] + notes:
        assert bridge.post_signed(event).json["status"] == "accepted"
    other = bridge.event("activity.call")
    assert bridge.post_signed(other, account="second").json["status"] == "accepted"
    bridge.wait_published("kafka", 84)
    bridge.wait_published("mqtt", 40)
    ids, note_ids = [event["id"] for event in leads], [event["id"] for event in notes]

    planned = replay(bridge, f"since={begin}&dry_run=true")
    assert {name: planned[name] for name in ("state", "dry_run", "events", "sent", "delivered", "failed", "missing",
                                             "remaining", "reaches_back")} == {
        "state": "done", "dry_run": True, "events": 84, "sent": 124, "delivered": 0, "failed": 0, "missing": 0,
        "remaining": 0, "reaches_back": True}
    assert [(of["publisher"], of["events"], of["unrouted"]) for of in planned["publishers"]] == [
        ("kafka", 44, 0), ("mqtt", 40, 4)]

    done = replay(bridge, f"since={begin}")  # everything
    assert {name: done[name] for name in ("state", "sent", "delivered", "failed", "missing", "failures")} == {
        "state": "done", "sent": 124, "delivered": 124, "failed": 0, "missing": 0, "failures": []}
    records = kafka.read(topic, count=80)
    assert sorted(live(records)) == sorted(replayed(records)) == sorted(ids), "the dry run sent nothing"
    expected = by_lead(record for record in records if not is_replayed(record))
    assert by_lead(record for record in records if is_replayed(record)) == expected
    original, again = (next(record for record in records if record.event_id == ids[0] and is_replayed(record) == mark)
                       for mark in (False, True))
    assert again.value == original.value and again.key == original.key
    assert {**original.headers, "ce_closereplay": "true"} == again.headers
    inside = [json.loads(record.value) for record in kafka.read(topic + "-ce", count=80)]
    assert sorted(event["closeeventid"] for event in inside if event.get("closereplay") == "true") == sorted(ids)
    messages = subscriber.wait(80)
    assert [message.event_id for message in messages[:40]] == [message.event_id for message in messages[40:]] == ids
    assert [(message.attributes.get("closereplay"), message.retain) for message in messages] == (
        [(None, True)] * 40 + [("true", False)] * 40), "an old event does not become the topic's latest"

    assert replay(bridge, f"since={begin}&object_type=activity.*&account=main")["delivered"] == 3
    assert replay(bridge, f"since={begin}&account=second")["delivered"] == 1
    assert replayed(kafka.read(topic + "-activity", count=12))[4:] == note_ids + [other["id"]]
    assert replay(bridge, f"since={middle}&topic={topic}")["delivered"] == 20
    assert replay(bridge, f"since={begin}&until={middle}&object_type=lead&publisher=mqtt")["delivered"] == 20
    assert [message.event_id for message in subscriber.wait(100)[80:]] == ids[:20]
    assert sorted(replayed(kafka.read(topic, count=100))) == sorted(ids + ids[20:])
    assert replay(bridge, f"since={begin}&object_type=contact")["events"] == 0
    assert bridge.metrics().value("events_replayed_total", publisher="kafka", result="delivered") == 108
    assert bridge.post_signed(leads[0]).json["status"] == "duplicate"
    assert len(kafka.read_all(topic)) == 100 and len(subscriber.messages) == 100


def test_live_events_do_not_wait_for_it_and_a_kill_ends_it(kafka, bridge, topic):
    names = [f"{topic}-{number}" for number in range(4)]
    kafka.create_topics(topic, *names, partitions=2)
    bridge.config["publishers"]["kafka"].update({"window": 100, "linger.ms": 10})  # slower than the journal is read
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": name}} for name in names] +
                 [{"object_type": "contact", "kafka": {"topic": topic}}])
    leads = [bridge.event(lead_id=f"lead_{number % 50}") for number in range(10000)]
    post_many(bridge, leads)
    bridge.wait_published("kafka", 40000)
    assert start(bridge, "since=1h&object_type=lead").status == 202
    busy = start(bridge, "since=1h")
    assert (busy.status, busy.json["error"]) == (409, "replay_runs")
    contacts, overtaken = [], []
    with kafka.reader(topic) as reader:
        before = progress(bridge)
        while before["state"] == "running":  # one live event after the other
            contacts.append(bridge.event("contact"))
            assert bridge.close.post(contacts[-1]).status == 200
            reader.until(lambda records: records and records[-1].event_id == contacts[-1]["id"], 60, "the live event")
            after = progress(bridge)
            overtaken.append(after["delivered"] - before["delivered"])
            before = after
    print(f"{len(contacts)} live events, and records of the replay meanwhile: {sorted(overtaken)[::-10]}")
    assert len(contacts) >= 10, "live events wait for the replay, or it was over too soon to tell"
    assert max(overtaken) <= 10000, "live events wait for the replay"
    done = wait_ended(bridge)
    assert (done["sent"], done["delivered"], done["failed"]) == (40000, 40000, 0)
    for name in names[:2]:
        records = kafka.read_all(name)
        first = by_lead(record for record in records if not is_replayed(record))
        assert by_lead(record for record in records if is_replayed(record)) == first

    assert start(bridge, "since=1h&object_type=lead").status == 202
    wait_until(lambda: progress(bridge)["delivered"] > 1000, 30, "it is on its way")
    more = [bridge.event("contact") for _ in range(100)]
    post_many(bridge, more)
    assert progress(bridge)["state"] == "running", "it was over too soon to tell"
    bridge.kill()
    bridge.start()
    assert progress(bridge) == {"state": "none"}
    more.append(bridge.event("contact"))
    post_many(bridge, more[-1:])
    bridge.wait_published("kafka", 1)
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") == 0, 30, "all is settled")
    assert set(live(kafka.read_all(topic))) == {event["id"] for event in contacts + more}
    assert bridge.metrics().value("events_replayed_total") == 0
    assert bridge.post_signed(bridge.event("contact")).status == 200


def test_a_broker_that_goes_away_is_waited_for_and_a_replay_can_be_stopped(own_kafka, mosquitto, make_bridge, topic):
    kafka = own_kafka().start()
    kafka.create_topics(topic)
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic}}])
    subscriber = mosquitto.subscribe(topic)
    leads = [bridge.event(lead_id=f"lead_{number % 10}") for number in range(2000)]
    post_many(bridge, leads)
    bridge.wait_published("kafka", 2000)
    bridge.wait_published("mqtt", 2000)
    accepted = [record.event_id for record in kafka.read_all(topic)]

    kafka.pause()  # it takes nothing, and nothing is lost
    assert start(bridge, "since=1h").status == 202
    wait_until(lambda: progress(bridge)["publishers"][1]["state"] == "done", 30, "MQTT has it all")
    kafka_part = progress(bridge)["publishers"][0]
    assert kafka_part["sent"] <= 256 and kafka_part["remaining"] > 1000, "no more than a few are on their way"
    kafka.kill()
    kafka.resume()
    kafka.start()
    bridge.wait_up("kafka")
    done = wait_ended(bridge)
    assert (done["delivered"], done["failed"]) == (4000, 0)
    again = list(dict.fromkeys(replayed(kafka.read_all(topic))))  # the outage may have doubled some
    assert again == accepted
    assert [message.event_id for message in subscriber.wait(4000)[2000:]] == accepted

    mosquitto.stop()
    bridge.wait_up("mqtt", False)
    assert start(bridge, "since=1h").status == 202
    wait_until(lambda: [of["state"] for of in progress(bridge)["publishers"]] == ["done", "waiting"], 30, "it waits")
    stopped = bridge.control("/control/replay", "DELETE")
    assert (stopped.status, stopped.json["state"]) == (200, "stopped")
    assert bridge.control("/control/replay", "DELETE").json["error"] == "no_replay"
    mosquitto.start()
    subscriber.wait_subscribed()
    lead = bridge.event()
    assert bridge.post_signed(lead).json["status"] == "accepted"
    subscriber.until(lambda messages: messages[-1].event_id == lead["id"], 30, "the live event")
    before = len(subscriber.messages)
    assert before - 4000 <= 257, "of what was stopped no more came than was on its way"
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="mqtt") == 0, 30, "it is settled")
    wait_until(lambda: start(bridge, "since=1h&publisher=mqtt").status == 202, 30, "another one can begin")
    wait_ended(bridge)
    assert [message.event_id for message in subscriber.wait(before + 2001)[before:]] == accepted + [lead["id"]]
    assert bridge.metrics().value("dead_letters") == bridge.metrics().value("parked_events") == 0


def test_what_cannot_be_delivered_is_reported_and_neither_parked_nor_buried(own_kafka, make_bridge, topic):
    kafka = own_kafka(auto_create_topics_enable="false").start()
    good, late, small = (f"{topic}-{name}" for name in ("good", "late", "small"))
    kafka.create_topics(good, small)
    bridge = make_bridge(kafka)
    bridge.config["publishers"]["kafka"]["topic.metadata.propagation.max.ms"] = 1000
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": good}},
                            {"object_type": "contact", "kafka": {"topic": late}},
                            {"object_type": "task.lead", "kafka": {"topic": small}}])
    events = []
    for number in range(30):
        event = bridge.event(("lead", "contact", "task.lead")[number % 3], lead_id="lead_1")
        event["data"]["description"] = bridge.maker.id("noise", 4000)  # random: compression does not save it
        events.append(event)
        assert bridge.post_signed(event).json["status"] == "accepted"
    ids = [event["id"] for event in events]
    bridge.wait_published("kafka", 20)
    wait_until(lambda: bridge.metrics().value("parked_events") == 10, 30, "the topic is parked")
    kafka.set_topic_config(small, max_message_bytes="2000")

    def reported(shown):
        return {(fault["topic"], fault["reason"], fault["count"]) for fault in shown["failures"]}
    planned = replay(bridge, "since=1h&dry_run=true")
    assert (planned["sent"], planned["failed"], reported(planned)) == (20, 10, {(late, "topic_parked", 10)})
    done = replay(bridge, "since=1h")
    assert (done["delivered"], done["failed"], done["failures_not_listed"]) == (10, 20, 0)
    assert reported(done) == {(late, "topic_parked", 10), (small, "too_large", 10)}
    fault = next(fault for fault in done["failures"] if fault["topic"] == small)
    again = replay(bridge, f"since={fault['first']}&topic={small}")
    assert again["failed"] == 10, "its times lead back to its records"
    assert bridge.metrics().value("events_dead_total") == 0
    assert bridge.metrics().value("events_replayed_total", result="failed") == 30

    kafka.create_topics(late)
    records = kafka.read(late, count=10, timeout=60)
    assert (live(records), replayed(records)) == (ids[1::3], []), "the parked ones, in order, and nothing before them"
    wait_until(lambda: bridge.metrics().value("parked_events") == 0, 30, "nothing is parked any more")
    assert replay(bridge, f"since=1h&topic={late}")["delivered"] == 10
    assert replayed(kafka.read(late, count=20)) == ids[1::3]
    assert replayed(kafka.read_all(good)) == ids[0::3]

    bridge.terminate()
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": small}}])  # the map now in force decides
    done = replay(bridge, "since=1h")
    assert (done["events"], done["unrouted"], reported(done)) == (10, 20, {(small, "too_large", 10)})


def test_how_far_back_the_journal_reaches_is_said(bridge, topic):
    bridge.start(journal={"retention": "0s"}, topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    assert replay(bridge, "since=72h")["reaches_back"] is True, "nothing was ever deleted"
    begin = moment()
    for _ in range(3):
        assert bridge.post_signed(bridge.event()).json["status"] == "accepted"
    bridge.wait_published("kafka", 3)

    def told():
        shown = replay(bridge, f"since={begin}")
        return shown["read"] == 0 and shown
    shown = wait_until(told, 30, "what was delivered is deleted")
    assert (shown["reaches_back"], shown["oldest_kept"], shown["delivered"]) == (False, None, 0)


def test_parameters_are_checked_and_broker_mode_has_none(kafka, make_bridge, topic):
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for query in ("", "until=1h", "since=", "since=yesterday", "since=2025-02-30", "since=2999-01-01",
                  "since=1h&until=2h", "since=1h&publisher=mqtt", "since=1h&publisher=rabbit", "since=1h&lead=x",
                  "since=1h&dry_run=maybe", "since=1h&topic=" + "x" * 2000):
        answer = start(bridge, query)
        assert (answer.status, bool(answer.json["message"])) == (400, True), (query, answer)
    assert progress(bridge) == {"state": "none"}
    assert bridge.control("/control/replay", "PUT").status == 405
    without = make_bridge(kafka, name="replica").start(
        journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic}},
        topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for method in ("POST", "GET", "DELETE"):
        answer = without.control("/control/replay?since=1h", method)
        assert (answer.status, answer.json["error"]) == (409, "no_journal"), method


# ---- the command ----

def command(bridge, *arguments):
    return bridge.run("replay", "-c", bridge.config_path, *arguments, timeout=60)


def test_the_command_follows_a_replay_and_says_whether_all_was_delivered(kafka, make_bridge, topic):
    bridge = make_bridge(kafka)
    small = topic + "-small"
    kafka.create_topics(small)
    bridge.start(control={"address": f"127.0.0.1:{free_port()}"},
                 topic_map=[{"object_type": "lead", "kafka": {"topic": topic}},
                            {"object_type": "contact", "kafka": {"topic": small}}])
    lead, contact = bridge.event("lead"), bridge.event("contact")
    for event in (lead, contact):
        assert bridge.post_signed(event).json["status"] == "accepted"
    bridge.wait_published("kafka", 2)
    done = command(bridge, "--since", "1h", "--dry-run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "kafka: 2 events, 2 records would be sent\n", "")
    done = command(bridge, "--since", "1h", "--object-type", "lead", "--account", "main", "--publisher", "kafka")
    assert (done.returncode, done.stdout, done.stderr) == (0, "kafka: 1 event, 1 of 1 record delivered\n", "")
    assert replayed(kafka.read(topic, count=2)) == [lead["id"]]
    shown = command(bridge, "--follow", "--json")
    assert (shown.returncode, json.loads(shown.stdout)) == (0, progress(bridge))

    kafka.set_topic_config(small, max_message_bytes="200")
    done = command(bridge, "--since", "2020-01-01", "--until", "2999-01-01", "--topic", small)
    assert done.returncode == 75 and "not everything was delivered" in done.stderr
    assert f"! 1 failed for kafka {small}: too_large, of events received from 20" in done.stdout
    assert command(bridge, "--stop").returncode == 65
    for wrong in ((), ("--since", "yesterday"), ("--since", "1h", "--until", "2026-13-01"), ("--stop", "--since", "1h"),
                  ("--since", "1h", "all"), ("--sinec", "1h")):
        assert command(bridge, *wrong).returncode == 64, wrong
    assert command(bridge, "--since", "1h", "--publisher", "mqtt").returncode == 65

    bridge.terminate()
    bridge.start(journal={"retention": "0s"})
    wait_until(lambda: bridge.readyz().status == 200 and replay(bridge, "since=1h")["read"] == 0, 30, "all is deleted")
    done = command(bridge, "--since", "1h")
    assert done.returncode == 0 and "does not reach back so far" in done.stderr
    bridge.terminate()
    gone = command(bridge, "--since", "1h")
    assert (gone.returncode, gone.stdout) == (69, "") and "no bridge answers at" in gone.stderr


def test_the_command_shows_a_bar_on_a_terminal_and_is_stopped_by_its_user_or_by_the_end_of_the_bridge(
        mosquitto, make_bridge, topic):
    bridge = make_bridge(mosquitto=mosquitto.start()).start(
        control={"address": f"127.0.0.1:{free_port()}"}, topic_map=[{"object_type": "*", "mqtt": {"topic": topic}}])
    for _ in range(3):
        assert bridge.post_signed(bridge.event()).json["status"] == "accepted"
    bridge.wait_published("mqtt", 3)
    mosquitto.stop()
    bridge.wait_up("mqtt", False)
    terminal = Terminal(bridge, "replay", "-c", bridge.config_path, "--since", "1h")
    terminal.until("[####################] 100% waiting for a broker: 3 of 3 read, 0 delivered")
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.wait() == 75
    assert "it was stopped: not everything was sent" in terminal.shown
    assert progress(bridge)["state"] == "stopped"

    mosquitto.start()
    wait_until(lambda: command(bridge, "--since", "1h").returncode == 0, 30, "all is delivered")
    mosquitto.stop()
    bridge.wait_up("mqtt", False)
    terminal = Terminal(bridge, "replay", "-c", bridge.config_path, "--since", "1h")
    terminal.until("waiting for a broker")
    bridge.kill()
    bridge.start()
    assert terminal.wait() == 75
    assert "a replay ends with the bridge. To go on: --since 20" in terminal.shown
    assert progress(bridge) == {"state": "none"}
    assert "there was none since the bridge was started" in command(bridge, "--follow").stderr
