"""What no webhook brought comes from Close's Event Log: DESIGN sections 1, 5 and 7."""
import collections
import json
import random
import threading

import pytest

from tests.e2e.bridge import KEY
from tests.e2e.openapi import check_against_openapi
from tests.e2e.subscriber import Subscriber
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


def past(close, seconds, object_type="lead", action="created", **members):
    """An event of so long ago, only in the log."""
    date = close.ago(seconds)
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


class Live:
    """Posts contacts at 50 a second and measures with the bridge's own metrics how long they take."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.events = []
        self.stopped = threading.Event()
        self.before = {}
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        """Once the broker has had some of them: what a connection takes to stand is not measured."""
        self.thread.start()
        self.bridge.wait_published("kafka", self.bridge.metrics().value("events_published_total") + 10)
        self.before = self.histograms()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def _run(self):
        while not self.stopped.wait(0.02):
            event = self.bridge.event("contact")
            assert self.bridge.close.post(event).status == 200
            self.events.append(event["id"])

    def histograms(self):
        metrics = self.bridge.metrics()
        return {name: {float(labels["le"]): value for found, labels, value in metrics.series
                       if found == f"closebridge_{name}_bucket"}
                for name in ("webhook_duration_seconds", "publish_latency_seconds")}

    def within(self, share):
        """By metric: the time within which that share of all since the beginning was done (the bound of a bucket)."""
        found = {}
        for name, buckets in self.histograms().items():
            counts = {bound: count - self.before[name].get(bound, 0) for bound, count in sorted(buckets.items())}
            found[name] = next(bound for bound, count in counts.items() if count >= share * max(counts.values()))
        return found


# ---- after an absence ----

def test_what_happened_while_the_bridge_was_away_comes_once_in_order_and_live_events_go_first(
        kafka, bridge, close_server, topic):
    subscriber = Subscriber(bridge, close_server, topic, catch_up={"interval": "15m", "settle": "10m"},
                            signature_keys=[KEY])
    subscriber.topic_map = [{"object_type": "lead", "kafka": {"topic": topic}},
                            {"object_type": "contact", "kafka": {"topic": topic + "-live"}}]
    kafka.create_topics(topic, topic + "-live", partitions=4)
    subscriber.start()
    subscriber.close.delivery.wait_idle()
    wait_until(lambda: show(bridge)["point"], 30, "the first run was made")
    with Live(bridge) as usual:
        wait_until(lambda: len(usual.events) >= 150, 30, "there is something to compare with")
    usual_p99 = usual.within(0.99)
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
    with Live(bridge) as live:
        done = wait_task(bridge, "done", cause="scheduled", accepted=len(missed))
    meanwhile = live.within(0.9)
    print(f"usual p99 {usual_p99}, meanwhile p90 {meanwhile}, p99 {live.within(0.99)}: {len(live.events)} live events, {done}")
    with kafka.reader(topic, topic + "-live") as reader:
        reader.until(lambda records: len(records) >= len(missed) + len(usual.events) + len(live.events), 60)
        records = [record for record in reader.records if record.topic == topic]
    assert versions(records) == collections.Counter(event["id"] for event in missed)
    assert {record.headers["ce_closeorigin"] for record in records} == {"event_log"}
    check_order(records)
    assert bridge.metrics().value("catch_up_events_total", account="main", result="accepted") == len(missed)
    assert len(live.events) > 50, "it was over too soon to tell"
    for name, bound in usual_p99.items():  # on a machine that tests share, the last percents are anybody's
        assert meanwhile[name] <= max(2 * bound, 0.1), name
    assert close_server.own()[0].is_active


@pytest.fixture
def reader(bridge, close_server, kafka, topic):
    """reader(catch_up, ...): a Reader, not started."""
    kafka.create_topics(topic, partitions=2)
    return lambda catch_up, **account: Reader(bridge, close_server, topic, catch_up, **account)


def test_ten_kills_in_the_middle_lose_nothing_and_repeat_no_more_than_the_window(reader, kafka, close_server, topic):
    window = 50
    away = reader({"interval": "1h", "settle": "0s"})
    away.bridge.config["publishers"]["kafka"]["window"] = window
    away.start()
    wait_until(lambda: away.show()["point"], 30, "the first run was made")
    away.bridge.kill()
    close_server.behaviour.clock_skew += 4 * HOUR
    make = numbered(close_server, 2000)
    events = []
    for number in range(2000):
        date = close_server.ago(3 * HOUR - 5 * number)
        events.append({**make(), "date_created": date, "date_updated": date})
        close_server.log.record(events[-1])
    kills = 0
    for step in range(2, 12):
        mark = len(close_server.calls)
        reached = threading.Event()

        def on_request(call, step=step, mark=mark, reached=reached):
            if len(close_server.calls) - mark >= step and call.phase == "answered":
                reached.set()
        close_server.on_request = on_request
        away.bridge.launch()
        reached.wait(30)
        away.bridge.kill()
        kills += reached.is_set()
    close_server.on_request = None
    mark = len(close_server.calls)
    away.bridge.start()
    away.wait(cause="scheduled")
    with kafka.reader(topic) as records:
        records.until(lambda found: len(versions(found)) >= len(events), 60)
        found = versions(kafka.read_all(topic))
    assert set(found) == {event["id"] for event in events}
    repeated = sum(found.values()) - len(found)
    print(f"{kills} kills, {repeated} events twice, {len(close_server.calls) - mark} requests at last")
    assert repeated <= kills * window
    check_order(records.records)
    assert kills == 10
    assert len(close_server.calls) - mark < 2000 / 50, "it began from the beginning again"


def test_what_comes_live_and_from_the_log_is_published_once_a_version(bridge, close_server, kafka, topic):
    close_server.behaviour.consolidation_delay = 0.5
    subscriber = Subscriber(bridge, close_server, topic, catch_up=NOW_AND_AGAIN)
    subscriber.start()
    subscriber.wait_synced()
    leads = [close_server.maker.id("lead") for _ in range(300)]
    seen = []
    for number in range(10000):
        if number % 4 == 0:
            seen.append(close_server.emit(object_type="contact", action="created"))
        else:
            seen.append(close_server.emit(object_type="lead", action="updated", lead_id=random.choice(leads)))
    last = {event["id"]: event["date_updated"] for event in seen}
    close_server.delivery.wait_idle()
    wait_point(bridge, close_server)
    final = {(event, date) for event, date in last.items()}
    with kafka.reader(topic) as reader:
        reader.until(lambda records: final <= {(record.event_id, record.headers["ce_closedateupdated"]) for record in records}, 60)
    records = kafka.read_all(topic)
    assert [version for version, count in versions(records).items() if count > 1] == []
    origins = collections.Counter(record.headers["ce_closeorigin"] for record in records)
    print(f"{len(seen)} changes, {len(last)} events, published {dict(origins)}")
    assert len(last) < len(seen) and set(origins) == {"webhook", "event_log"}
    assert {(record.event_id, record.headers["ce_closedateupdated"]) for record in records} <= {
        (event["id"], event["date_updated"]) for event in seen}
    assert bridge.metrics().value("event_conflicts_total") == 0


# ---- what Close may answer ----

def test_expired_cursors_rate_limits_and_broken_pages_are_waited_out(reader, kafka, close_server, topic):
    events = [past(close_server, HOUR + number) for number in range(400)]
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
    assert versions(kafka.read(topic, count=len(events))) == collections.Counter(event["id"] for event in events)
    log = away.bridge.log()
    for event in ("cursor_expired", "rate_limited", "waits", "goes_on"):
        assert f"event=catch_up.{event}" in log, event
    assert close_server.api_key not in log


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
    bridge = make_bridge(own_kafka())
    for number in range(4000):
        past(close_server, HOUR + number)
    away = Reader(bridge, close_server, topic, NEVER).start(journal={"max_size": "4MiB"})
    away.ask("since=3h&until=30m")
    wait_until(lambda: away.show()["waits_for"], 60, lambda: f"it stops: {away.show()}")
    waiting = away.show()
    assert "half of the journal" in waiting["waits_for"]
    for _ in range(20):
        assert bridge.post_signed(bridge.event()).status == 200
    assert away.bridge.control("/control/catch-up", "DELETE").json == {"cancelled": 1}
    wait_task(bridge, "cancelled")


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
