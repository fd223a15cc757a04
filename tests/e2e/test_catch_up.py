"""What no webhook brought comes from Close's Event Log: DESIGN sections 1, 5 and 7."""
import collections
import json
import random
import re
import signal
import threading
import time

import pytest

from tests.e2e.bridge import KEY
from tests.e2e.openapi import check_against_openapi
from tests.e2e.subscriber import Subscriber
from tests.e2e.terminal import Terminal
from tests.peers.process import wait_until

MINUTE, HOUR, DAY = 60, 3600, 86400
NOW_AND_AGAIN = {"interval": "1s", "settle": "0s"}
NEVER = {"interval": 0}


class Reader:
    """A bridge that reads the Event Log of the simulator; webhooks come from the test itself."""

    def __init__(self, bridge, close, topic, catch_up, **account):
        self.bridge = bridge
        self.close = close
        self.topic = topic
        self.account = {"name": "main", "api_key": close.api_key, "api_url": close.url, "signature_keys": [KEY],
                        "sync": "manual", "catch_up": catch_up, **account}

    @property
    def point_path(self):
        return self.bridge.folder / "journal.catch-up"

    def start(self, **sections):
        self.bridge.configure(**{"accounts": [self.account],
                                 "topic_map": [{"object_type": "*", "kafka": {"topic": self.topic}}], **sections})
        self.bridge.start()
        return self

    def show(self, name="main"):
        return show(self.bridge, name)

    def ask(self, query, status=202):
        answer = self.bridge.control("/control/catch-up?" + query, "POST")
        assert answer.status == status, answer
        return answer.json

    def wait(self, state="done", timeout=60, **members):
        return wait_task(self.bridge, state, timeout, **members)


def show(bridge, name="main"):
    answer = bridge.control("/control/catch-up")
    assert answer.status == 200, answer
    return next(account for account in answer.json["accounts"] if account["account"] == name)


def wait_point(bridge, close, timeout=30):
    """Until scheduled runs have read everything that Close has now."""
    date = close.ago(0)
    wait_until(lambda: (show(bridge)["point"] or "") >= date, timeout, lambda: f"read up to {date}: {show(bridge)}")


def wait_task(bridge, state, timeout=60, **members):
    """The task of that state that has these members."""
    def found():
        account = show(bridge)
        return next((task for task in account["tasks"] + account["finished"]
                     if task["state"] == state and members.items() <= task.items()), None)
    return wait_until(found, timeout, lambda: f"a task is {state}: {json.dumps(show(bridge), indent=1)}\n{bridge.log()[-2000:]}")


def past(close, seconds, object_type="lead", action="created", date=None, **members):
    """An event of so long ago, or of that date, only in the log."""
    date = date or close.ago(seconds)
    event = close.maker.event(object_type, action, date_created=date, date_updated=date, **members)
    close.log.record(event)
    return event


def numbered(close, count, leads=20):
    """Makes events of some leads, numbered by their requests."""
    ids = [close.maker.id("lead") for _ in range(leads)]
    numbers = iter(range(count))
    return lambda: close.maker.event("lead", "updated", lead_id=random.choice(ids), request_id=f"req_{next(numbers):06}",
                                     changed_fields=["name"])


def versions(records):
    return collections.Counter(record.headers["ce_id"] for record in records)


def check_order(records):
    """Of every lead the first records of each event come in the order of their numbers."""
    last, seen = {}, set()
    for record in records:
        event = json.loads(record.value)
        if event["id"] in seen:
            continue
        seen.add(event["id"])
        assert event["request_id"] > last.get(record.key, ""), record.key
        last[record.key] = event["request_id"]


def post_live(bridge, reader, is_going_on):
    """Posts contacts while it goes on, each once the one before has reached the consumer. By contact: how many records the
    partition got before it that were not there when it was posted."""
    waited_for = {}
    deadline = time.monotonic() + 300
    while is_going_on():
        assert time.monotonic() < deadline, f"it ends: {show(bridge)}"
        published = bridge.metrics().value("events_published_total", publisher="kafka")
        contact = bridge.event("contact")
        assert bridge.close.post(contact).status == 200
        came = []
        while not any(record.event_id == contact["id"] for record in came):
            reader.until(lambda records: len(records) > len(came), 60, "the live event")
            came = reader.records[:]
        waited_for[contact["id"]] = next(record.offset for record in reversed(came) if record.event_id == contact["id"]) - published
    return waited_for


# ---- after an absence ----

def test_what_happened_while_the_bridge_was_away_comes_once_in_order_and_live_events_go_first(
        kafka, bridge, close_server, topic):
    subscriber = Subscriber(bridge, close_server, topic, catch_up={"interval": "15m", "settle": "10m"},
                            signature_keys=[KEY])
    subscriber.topic_map = [{"object_type": kind, "kafka": {"topic": topic}} for kind in ("lead", "contact")]
    bridge.config["publishers"]["kafka"].update({"window": 50, "linger.ms": 50})  # slower than the Event Log
    kafka.create_topics(topic)  # one partition shows what a live event waits for
    subscriber.start()
    subscriber.close.delivery.wait_idle()
    wait_until(lambda: show(bridge)["point"], 30, "the first run was made")
    bridge.kill()

    make = numbered(close_server, 10000)
    missed = [close_server.emit(make()) for _ in range(300)]
    assert close_server.delivery.pending > 0
    close_server.pause(close_server.own()[0])
    missed += [close_server.emit(make()) for _ in range(9700)]
    close_server.delivery.wait_idle()
    close_server.behaviour.clock_skew += HOUR
    close_server.behaviour.rate_limit = (60, 1)
    subscriber.start()

    def is_going_on():
        return bridge.metrics().value("catch_up_events_total", account="main", result="accepted") < len(missed)
    with kafka.reader(topic) as reader:
        live = post_live(bridge, reader, is_going_on)
        reader.until(lambda records: len(records) >= len(missed) + len(live), 60)
        records = [record for record in reader.records if record.event_id not in live]
    print(f"{len(live)} live events waited for so many records: {sorted(live.values())[::-10]}")
    assert len(live) >= 10, "it was over too soon to tell"
    assert max(live.values()) <= len(missed) / 10, "live events wait for the Event Log"
    assert versions(records) == collections.Counter(event["id"] for event in missed)
    assert {record.headers["ce_closeorigin"] for record in records} == {"event_log"}
    check_order(records)
    assert bridge.metrics().value("catch_up_events_total", account="main", result="accepted") == len(missed)
    assert close_server.own()[0].is_active


@pytest.fixture
def reader(bridge, close_server, kafka, topic):
    """reader(catch_up, ...): a Reader, not started."""
    kafka.create_topics(topic, partitions=2)
    return lambda catch_up, **account: Reader(bridge, close_server, topic, catch_up, **account)


def when_requests_were_answered(close, count):
    """A function that waits until so many were from now on."""
    mark = len(close.calls)
    reached = threading.Event()

    def on_request(call):
        if len(close.calls) - mark >= count and call.phase == "answered":
            reached.set()
    close.on_request = on_request
    return lambda: reached.wait(30)


def when_renewed(path, times):
    """A function that waits until the file was renewed so often from now on, and returns at once then."""
    def seen():
        return path.stat().st_ino, path.stat().st_mtime_ns
    state = {"last": seen(), "left": times, "deadline": time.monotonic() + 30}

    def wait():
        while state["left"] > 0 and time.monotonic() < state["deadline"]:
            now = seen()
            state["left"] -= now != state["last"]
            state["last"] = now
        return state["left"] == 0
    return wait


def test_ten_kills_in_the_middle_lose_nothing_and_repeat_no_more_than_the_window(reader, kafka, close_server, topic):
    window = 50
    away = reader({"interval": "1h", "settle": "0s"})
    away.bridge.config["publishers"]["kafka"]["window"] = window
    away.start()
    wait_until(lambda: away.show()["point"], 30, "the first run was made")
    away.bridge.kill()
    close_server.behaviour.clock_skew += 36 * HOUR
    make = numbered(close_server, 2000)  # one a minute: the overlap hides next to nothing
    events = []
    for number in range(2000):
        date = close_server.ago(35 * HOUR - MINUTE * number)
        events.append({**make(), "date_created": date, "date_updated": date})
        close_server.log.record(events[-1])
    for requests, renewals in ((3, 0), (0, 1), (5, 0), (0, 2), (7, 0), (0, 3), (9, 0), (0, 2), (11, 0), (0, 1)):
        happened = when_requests_were_answered(close_server, requests) if requests else when_renewed(away.point_path, renewals)
        away.bridge.launch()
        assert happened(), "it was over too soon"
        away.bridge.kill()
    close_server.on_request = None
    mark = len(close_server.calls)
    away.bridge.start()
    away.wait(cause="scheduled")
    with kafka.reader(topic) as records:
        records.until(lambda found: len(versions(found)) >= len(events), 60)
        found = versions(kafka.read_all(topic))
    assert set(found) == {event["id"] for event in events}
    repeated = sum(found.values()) - len(found)
    print(f"{repeated} events twice, {len(close_server.calls) - mark} requests at last")
    assert repeated <= 10 * window
    check_order(records.records)
    assert len(close_server.calls) - mark < 2000 / 50, "it began from the beginning again"


@pytest.mark.parametrize("spelling, count", [("documented", 10000), ("webhook", 1000)])
def test_what_comes_live_and_from_the_log_is_published_once_a_version(bridge, close_server, kafka, topic, spelling, count):
    close_server.behaviour.consolidation_delay = 1.5  # longer than the interval: the log has updates first
    close_server.behaviour.log_spelling = spelling
    subscriber = Subscriber(bridge, close_server, topic, catch_up=NOW_AND_AGAIN)
    subscriber.topic_map = [{"object_type": kind, "kafka": {"topic": topic}} for kind in ("lead", "contact")]
    subscriber.start()
    wait_until(lambda: subscriber.own and show(bridge)["point"], 30, "it is subscribed and reads the log")
    leads = [close_server.maker.id("lead") for _ in range(count // 2)]
    last, versions_seen = {}, set()
    while len(last) < count:
        for object_type, action in (("contact", "created"), ("lead", "updated"), ("lead", "updated"), ("lead", "deleted")):
            lead = random.choice(leads) if object_type == "lead" else None
            event = close_server.emit(object_type=object_type, action=action, lead_id=lead)
            last[event["id"]] = event["date_updated"]
            versions_seen.add((event["id"], event["date_updated"]))
    close_server.delivery.wait_idle()
    wait_point(bridge, close_server)
    final = set(last.items())

    def version(record):
        return record.event_id, record.headers["ce_closedateupdated"]
    with kafka.reader(topic) as reader:
        reader.until(lambda records: final <= set(map(version, records)), 60)
    records = kafka.read_all(topic)
    assert [version for version, times in versions(records).items() if times > 1] == []
    origins = collections.Counter(record.headers["ce_closeorigin"] for record in records)
    print(f"{len(versions_seen)} changes, {len(last)} events, published {dict(origins)}")
    assert len(last) < len(versions_seen) and set(origins) == {"webhook", "event_log"}
    assert set(map(version, records)) <= versions_seen
    assert bridge.metrics().value("event_conflicts_total") == 0
    assert bool(bridge.metrics().value("event_respellings_total")) == (spelling != "webhook")


# ---- what Close may answer ----

def test_expired_cursors_rate_limits_and_broken_pages_are_waited_out(reader, kafka, close_server, topic):
    events = [past(close_server, HOUR + number) for number in range(270)]
    moment = close_server.ago(HOUR + 1)
    events += [past(close_server, 0, date=moment) for _ in range(130)]  # no page ends where a date does
    away = reader(NEVER).start()
    asked = iter(range(1000))

    def on_request(call):
        if call.phase == "arrived" and "_cursor" in call.query and next(asked) in (1, 3, 6):
            close_server.log.expire_cursors()
    close_server.on_request = on_request
    close_server.fail_next(429, count=8, where=("GET", "/event/"), headers={"retry-after": "1"}, skip=2)
    close_server.fail_next(500, count=2, where=("GET", "/event/"), skip=6)
    close_server.fail_next(where=("GET", "/event/"), cut="body", skip=8)
    close_server.fail_next(where=("GET", "/event/"), body=b"<html>", skip=10)
    away.ask("since=3h&until=30m")
    done = away.wait(accepted=len(events))
    assert done["rate_limited"] > 0
    calls = [call for call in close_server.calls if call.path == "/event/"]
    assert all(after.at - call.at > 0.9 for call, after in zip(calls, calls[1:]) if call.status == 429), "a pause is kept"
    assert versions(kafka.read(topic, count=len(events))) == collections.Counter(event["id"] for event in events)
    log = away.bridge.log()
    for event in ("cursor_expired", "rate_limited", "waits", "goes_on"):
        assert f"event=catch_up.{event}" in log, event
    assert close_server.api_key not in log


@pytest.mark.parametrize("headers", [{"retry-after": "3600"}, {"ratelimit": "limit=160; remaining=0; reset=3600"}])
def test_a_pause_that_close_asks_for_outlasts_a_reload(reader, close_server, make_close_server, topic, headers):
    away = reader(NEVER)
    willing = make_close_server()
    other = {**away.account, "name": "other", "api_key": willing.api_key, "api_url": willing.url}
    close_server.fail_next(429, where=("GET", "/event/"), headers=headers)
    away.start(accounts=[away.account, other])
    away.ask("since=1h&account=main")
    wait_until(lambda: "event=catch_up.rate_limited account=main" in away.bridge.log(), 30, "Close asks for a pause")
    assert away.bridge.reload(topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}]).json["result"] == "reloaded"
    away.ask("since=1h&account=other")
    wait_until(lambda: away.show("other")["finished"], 30, "the other account, whose turn comes later, is read")
    assert [call.status for call in close_server.calls if call.path == "/event/"] == [429]


def test_a_malformed_event_is_kept_and_the_others_go_on(reader, kafka, close_server, topic):
    events = [past(close_server, HOUR + number) for number in range(3)]
    away = reader(NEVER).start()

    def spoil(body):
        if not body["data"]:
            return body
        first, *rest = body["data"]
        return {**body, "data": [first, {**first, "id": 7}, "nothing", {**first, "id": "ev_new", "action": None}, *rest]}
    close_server.fail_next(where=("GET", "/event/"), edit=spoil, count=None)
    away.ask("since=2h&until=30m")
    assert away.wait(malformed=3, accepted=3)["read"] == 6
    away.ask("since=2h&until=30m")  # what is kept is kept once
    away.wait(malformed=0, accepted=0, duplicate=6)
    away.bridge.wait_published("kafka", len(events))
    assert set(versions(kafka.read_all(topic))) == {event["id"] for event in events}
    letters = away.bridge.control("/control/dead-letters").json["dead_letters"]
    assert len(letters) == 3
    shown = away.bridge.control(f"/control/dead-letters?id={letters[0]['id']}")
    assert shown.status == 200
    assert away.bridge.metrics().value("catch_up_events_total", result="malformed") == 3
    assert "event=catch_up.not_an_event" in away.bridge.log()


def test_a_key_of_no_admin_holds_events_back_until_there_is_one(reader, kafka, close_server, topic):
    away = reader({"interval": "1s", "settle": "0s"}, api_key=close_server.add_key("user", is_admin=False))
    away.start()
    wait_until(lambda: away.show()["point"], 30, "the first run was made")
    away.bridge.kill()
    close_server.behaviour.clock_skew += 3 * HOUR
    hidden = [past(close_server, 2 * HOUR + number) for number in range(60)]
    shown = [past(close_server, HOUR / 2 + number) for number in range(60)]
    away.bridge.start()
    held = away.wait("held_back", cause="incomplete")
    wait_point(away.bridge, close_server)
    assert "admin" in held["error"]
    assert set(versions(kafka.read(topic, count=60))) == {event["id"] for event in shown}
    assert "event=catch_up.incomplete" in away.bridge.log()
    away.ask("since=3m&dry_run=true")
    away.bridge.restart()  # it is not forgotten
    away.wait("held_back", cause="incomplete")
    assert away.bridge.reload(accounts=[{**away.account, "api_key": close_server.api_key}]).status == 200
    away.wait(cause="incomplete")
    records = kafka.read(topic, count=120)
    assert versions(records) == collections.Counter(event["id"] for event in shown + hidden)
    assert all("data" in json.loads(record.value) for record in records)


def test_scheduled_runs_look_back_leave_what_is_young_and_survive_a_clock_that_was_wrong(reader, kafka, close_server, topic):
    away = reader({"interval": "1s", "settle": "10m", "overlap": "5m"}).start()
    wait_until(lambda: away.show()["point"], 30, "the first run was made")
    away.bridge.terminate()

    def wait_run():
        date = close_server.ago(10 * MINUTE)
        wait_until(lambda: away.show()["point"] >= date, 30, lambda: f"read up to {date}: {away.show()}")
    close_server.behaviour.clock_skew += HOUR
    away.bridge.start()
    wait_run()
    late = past(close_server, 14 * MINUTE)  # seen by no run, when its time was read
    young = past(close_server, 9 * MINUTE)
    wait_run()
    assert set(versions(kafka.read(topic, count=1))) == {late["id"]}
    wait_run()
    assert set(versions(kafka.read_all(topic))) == {late["id"]}
    close_server.behaviour.clock_skew += 2 * MINUTE
    assert set(versions(kafka.read(topic, count=2))) == {late["id"], young["id"]}
    wait_run()
    close_server.behaviour.clock_skew -= HOUR / 2
    behind = past(close_server, 11 * MINUTE)  # of a time that is read already, by the clock of before
    assert set(versions(kafka.read(topic, count=3))) == {late["id"], young["id"], behind["id"]}
    assert "event=catch_up.clock_was_ahead" in away.bridge.log()


def test_an_account_that_a_reload_takes_away_goes_on_where_it_was_when_it_is_back(reader, kafka, close_server, topic):
    events = [past(close_server, 2 * HOUR + number) for number in range(3000)]
    away = reader(NEVER).start()
    close_server.behaviour.rate_limit = (10, 1)
    away.ask("since=1d&until=1h")
    wait_until(lambda: away.show()["tasks"][0]["accepted"] > 500, 60, "it is in the middle")
    other = {"name": "other", "signature_keys": [KEY]}
    assert away.bridge.reload(accounts=[other]).status == 200
    wait_until(lambda: away.show()["state"] == "off", 30, lambda: f"it stops: {away.show()}")
    held = away.show()["tasks"][0]["accepted"]
    calls = len(close_server.calls)
    assert held < len(events) and away.ask("since=1h", 409)["error"] == "no_credentials"
    assert len(close_server.calls) <= calls + 1, "nobody is asked for an account that is gone"
    close_server.behaviour.rate_limit = None
    assert away.bridge.reload(accounts=[other, away.account]).status == 200
    away.wait(cause="requested")
    assert versions(kafka.read(topic, count=len(events))) == collections.Counter(event["id"] for event in events)


# ---- on request ----

def command_config(bridge):
    """A file for commands: the bridge's own lets it choose its port."""
    path = bridge.folder / "command.yaml"
    path.write_text(json.dumps({**bridge.config, "control": {"address": bridge.control_address}}))
    return path


def test_a_request_reads_what_it_names_and_says_what_it_means(reader, kafka, close_server, topic):
    leads = [past(close_server, 2 * DAY + number) for number in range(60)]
    notes = [past(close_server, 2 * DAY + number, "activity.note") for number in range(60)]
    close_server.behaviour.log_spelling = "older"
    away = reader(NEVER).start()
    trial = away.ask("since=3d&dry_run=true")
    check_against_openapi("CatchUpAccepted", trial)
    assert any("not all that there is" in warning for warning in trial["warnings"])
    assert away.wait(dry_run=True, accepted=120)["duplicate"] == 0
    assert kafka.read_all(topic) == []
    away.ask("since=3d&until=1d&object_type=activity.*&action=created")
    done = away.wait(object_type="activity.*", accepted=60)
    assert done["ignored"] == 60
    end = re.search(r"event=catch_up.finished .* since=(\S+) until=(\S+) reached=(\S+) read=120 accepted=60 ", away.bridge.log())
    assert end and list(end.groups()) == [done[name] for name in ("since", "until", "reached")], away.bridge.log()
    records = kafka.read(topic, count=60)
    assert set(versions(records)) == {event["id"] for event in notes}
    assert {record.headers["ce_type"] for record in records} == {"com.close.activity.note.created"}
    away.ask("since=100d")
    away.wait(cause="requested", accepted=60, duplicate=60)
    assert set(versions(kafka.read(topic, count=120))) == {event["id"] for event in leads + notes}
    answer = away.bridge.control("/control/catch-up")
    check_against_openapi("CatchUp", answer.json)
    assert away.show()["point"] is None and away.show()["state"] == "manual"


@pytest.mark.parametrize("query, status, code", [
    ("", 400, "bad_parameter"), ("since=yesterday", 400, "bad_parameter"), ("since=2099-01-01", 400, "bad_parameter"),
    ("since=1h&until=2h", 400, "bad_parameter"), ("since=1h&dry_run=1", 400, "bad_parameter"),
    ("since=1h&type=lead", 400, "unknown_parameter"), ("since=1h&account=", 404, "no_such_account"),
    ("since=1h&object_type=", 400, "bad_parameter"), ("since=1h&account=other", 404, "no_such_account"),
    ("since=1h&account=bare", 409, "no_credentials"),
])
def test_requests_that_make_no_sense_are_refused(shared_reader, query, status, code):
    assert shared_reader.ask(query, status)["error"] == code


@pytest.fixture
def shared_reader(reader):
    away = reader(NEVER)
    return away.start(accounts=[away.account, {"name": "bare", "signature_keys": [KEY]}])


def test_without_a_journal_there_is_no_catch_up(reader, kafka, topic):
    away = reader(NEVER)
    kafka.create_topics(topic + "-dead")
    away.start(journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}})
    for method in ("GET", "POST", "DELETE"):
        answer = away.bridge.control("/control/catch-up?since=1h", method)
        assert (answer.status, answer.json["error"]) == (409, "no_journal")
    refused = away.bridge.run("catch-up", "-c", command_config(away.bridge), "--since", "1h")
    assert refused.returncode == 65 and "acknowledge: broker" in refused.stderr


def test_a_gap_of_the_subscription_is_read_at_once(bridge, close_server, kafka, topic):
    kafka.create_topics(topic)
    subscriber = Subscriber(bridge, close_server, topic, catch_up={"interval": "1d", "settle": "0s"}, sync="manual")
    before = past(close_server, HOUR)
    subscriber.start()
    wait_until(lambda: show(bridge)["point"], 30, "the first run was made")
    subscriber.sync()
    [own] = subscriber.own
    close_server.pause(own)
    missed = close_server.emit(object_type="lead", action="created")
    assert subscriber.sync()["gap"]
    with kafka.reader(topic) as reader:
        reader.until(lambda records: {missed["id"], before["id"]} <= {record.event_id for record in records}, 30)
    assert wait_task(bridge, "done", cause="gap")["accepted"] >= 1


def test_a_broker_that_is_away_is_not_waited_for_by_live_events(make_bridge, own_kafka, close_server, topic):
    broker = own_kafka()
    bridge = make_bridge(broker)
    events = [past(close_server, HOUR + number) for number in range(4000)]
    away = Reader(bridge, close_server, topic, NEVER).start(journal={"max_size": "4MiB"})
    warnings = away.ask("since=3h&until=30m")["warnings"]
    assert any("is not known: the topics of Kafka cannot be looked at" in warning for warning in warnings)
    wait_until(lambda: away.show()["waits_for"], 60, lambda: f"it stops: {away.show()}")
    waiting = away.show()
    assert "half of the journal" in waiting["waits_for"]
    for _ in range(20):
        events.append(bridge.event())
        assert bridge.post_signed(events[-1]).status == 200
    while bridge.post_signed(bridge.event(changed_fields=["x" * 100000])).status == 200:  # until it is full
        pass
    wait_until(lambda: "full" in (away.show()["waits_for"] or ""), 30, lambda: f"it waits for room: {away.show()}")
    away.ask("since=3h&until=30m")
    assert away.bridge.control("/control/catch-up?id=2", "DELETE").json == {"cancelled": 1}
    broker.start()
    wait_task(bridge, "cancelled", id=2)
    wait_task(bridge, "done", id=1, accepted=4000)
    wanted = {event["id"] for event in events}
    with broker.reader(topic) as reader:
        reader.until(lambda records: wanted <= {record.event_id for record in records}, 60)
        assert max(versions(reader.records).values()) == 1


def test_topics_that_keep_less_than_it_goes_back_are_named(reader, kafka, close_server, topic):
    brief, dated, lasting = (f"{topic}-{name}" for name in ("brief", "dated", "lasting"))
    kafka.create_topics(brief, retention_ms=36 * HOUR * 1000)
    kafka.create_topics(dated, retention_ms=2 * DAY * 1000)
    kafka.create_topics(lasting, retention_ms=-1)
    past(close_server, 5 * DAY)
    away = reader(NEVER).start(topic_map=[
        {"object_type": "lead", "kafka": {"topic": brief}},
        {"object_type": "contact", "kafka": {"topic": dated, "timestamp": "event"}},
        {"object_type": "task.lead", "kafka": {"topic": lasting, "timestamp": "event"}},
        {"object_type": "group", "kafka": {"topic": topic + "-unmade"}}])

    def about_kafka(answer):
        return sorted(warning for warning in answer["warnings"] if "Kafka" in warning)
    answer = away.ask("since=10d&dry_run=true")
    check_against_openapi("CatchUpAccepted", answer)
    [received, by_event] = about_kafka(answer)
    assert "keeps records for 36h (retention.ms) and this begins 10d ago" in received and received.endswith(f"Topics: {brief}")
    assert "keeps records for 48h (retention.ms) and this begins 10d ago" in by_event and by_event.endswith(f"Topics: {dated}")
    assert "deletes at once" in by_event and "deletes at once" not in received
    done = away.wait(dry_run=True)
    assert done["warnings"] == answer["warnings"] == answer["tasks"][0]["task"]["warnings"]
    check_against_openapi("CatchUp", away.bridge.control("/control/catch-up").json)
    assert f"Topics: {brief}" in away.bridge.log() and "event=catch_up.warning" in away.bridge.log()
    assert about_kafka(away.ask("since=40h")) == about_kafka(away.ask("since=10d&object_type=task.*")) + [
        warning.replace("10d", "40h") for warning in [received]]
    told = away.bridge.run("catch-up", "-c", command_config(away.bridge), "--since", "10d", "--object-type", "contact", "--dry-run")
    assert told.returncode == 0 and f"warning: {by_event}" in told.stderr and brief not in told.stderr


def test_a_kafka_that_may_not_be_asked_is_said_once(own_kafka, make_bridge, close_server, topic):
    """The bridge is nobody there, and nobody may do anything."""
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="x" user_admin="x";'
    kafka = own_kafka(listener_security_protocol_map="PLAINTEXT:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
                      sasl_mechanism_controller_protocol="PLAIN", listener_name_controller_sasl_enabled_mechanisms="PLAIN",
                      listener_name_controller_plain_sasl_jaas_config=login, super_users="User:admin",
                      authorizer_class_name="org.apache.kafka.metadata.authorizer.StandardAuthorizer").start()
    away = Reader(make_bridge(kafka), close_server, topic, NEVER).start(
        topic_map=[{"object_type": "*", "kafka": {"topic": topic + "-{object_type}"}}])
    warnings = away.ask("since=5d&dry_run=true")["warnings"]
    [told] = [warning for warning in warnings if "retention.ms" in warning]
    assert "is not known" in told and "authoriz" in told.lower() and "DescribeConfigs" in told
    away.wait(dry_run=True)


# ---- the command ----

def test_the_command_follows_what_it_asks_for(reader, kafka, close_server, topic):
    events = [past(close_server, HOUR + number) for number in range(120)]
    away = reader(NEVER).start()
    config = command_config(away.bridge)

    def run(*arguments):
        return away.bridge.run("catch-up", "-c", config, *arguments, timeout=60)
    done = run("--since", "2h", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "main: read 120, would hand on 120\n"), done.stderr
    done = run("--since", "30d", "--account", "main")
    assert (done.returncode, done.stdout) == (0, "main: read 120, new 120, duplicate 0\n"), done.stderr
    assert "warning: The Event Log holds what changed" in done.stderr
    assert len(kafka.read(topic, count=120)) == len(events)
    shown = run()
    assert shown.returncode == 0 and "main: manual" in shown.stdout and "requested  done" in shown.stdout
    assert json.loads(run("--json").stdout)["accounts"][0]["account"] == "main"
    assert run("--cancel").stdout == "cancelled: 0\n"
    for arguments, code in ((("--until", "1h"), 64), (("--since", "never"), 64), (("--since", "1h", "--account", "x"), 65),
                            (("--cancel", "--since", "1h"), 64), (("--sinc",), 64)):
        assert run(*arguments).returncode == code, arguments
    close_server.revoke(close_server.api_key)
    waiting = run("--since", "1h", "--no-wait")
    assert (waiting.returncode, waiting.stdout[:12]) == (0, "main: task 3"), waiting
    assert away.bridge.terminate() == 0
    assert run("--since", "1h").returncode == 69


def test_the_command_on_a_terminal_shows_a_bar_that_fits_and_goes_away_without_its_task(reader, kafka, close_server, topic):
    events = [past(close_server, HOUR + number) for number in range(400)]
    away = reader(NEVER).start()
    command = ("catch-up", "-c", str(command_config(away.bridge)), "--since", "3h", "--until", "30m")
    close_server.fail_next(429, where=("GET", "/event/"), headers={"retry-after": "1"}, count=None)
    narrow = Terminal(away.bridge, *command, columns=40, env={"LC_ALL": "C", "NO_COLOR": "1"})
    narrow.until("[..........]   0% read 0, Close asks fo\r")
    narrow.child.send_signal(signal.SIGINT)
    assert narrow.wait() == 75
    assert "the bridge goes on" in narrow.shown.splitlines()[-1]
    drawn = [line for line in narrow.shown.split("\r\x1b[K") if line.startswith("[")]
    assert max(map(len, drawn)) <= 39, drawn
    plain = Terminal(away.bridge, *command, env={"TERM": "dumb"})
    plain.until("read 0, Close asks for a pause\r\n")
    close_server.heal()
    assert plain.wait(60) == 0
    assert "\x1b" not in plain.shown and "new 0, duplicate 400" in plain.shown
    wide = Terminal(away.bridge, *command)
    assert wide.wait(60) == 0 and wide.shown.endswith("main: read 400, new 0, duplicate 400\r\n")
    assert versions(kafka.read(topic, count=len(events))) == collections.Counter(event["id"] for event in events)
