"""docs/consumers.md says what is true: its examples are what comes out, its programs run. So are other pages' configurations."""
import json
import re
import signal
import sqlite3
import sys

import confluent_kafka
import pytest

from tests.e2e.bridge import ROOT
from tests.peers.process import Process, wait_until

PAGE = (ROOT / "docs" / "consumers.md").read_text(encoding="utf-8")
BLOCKS = {(language, name): text for language, name, text in re.findall(r"```(\w+) (\w+)\n(.*?)```", PAGE, re.S)}
REAL = "real-lead.created-2025-09-04.wire.json"


@pytest.fixture
def run_block(tmp_path):
    """run_block(name, **environment): a program of the page, running."""
    running = []

    def run(name, **environment):
        path = tmp_path / f"{name}.py"
        path.write_text(BLOCKS["python", name])
        running.append(Process(name, [sys.executable, "-B", path], tmp_path / f"{name}.log", env=environment).start())
        return running[-1]

    yield run
    for process in running:
        process.kill()


def test_the_tests_that_show_the_security_requirements_exist():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (S\d+) \|.*\|(.*)\|$", page, re.M)
    assert [name for name, _ in rows] == [f"S{number}" for number in range(1, 23) if number != 19]
    for row, shown in rows:
        named = re.findall(r"`([a-z0-9_/]+\.(?:c|py))(?:::(\w+))?`", shown)
        assert named and len(named) == shown.count("`") / 2, row
        for path, function in named:
            text = (ROOT / "tests" / path).read_text()
            assert not function or re.search(rf"^(def|static void) {function}\(", text, re.M), f"{row}: {path}::{function}"


def test_the_examples_are_what_the_bridge_makes(kafka, bridge, payload, topic):
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": f"{topic}.{form}", "format": form}}
                            for form in ("event", "cloudevents", "raw")])
    assert bridge.post_signed(payload(REAL)).status == 200
    for form in ("event", "cloudevents", "raw"):
        [record] = kafka.read(f"{topic}.{form}", count=1)
        example, found = json.loads(BLOCKS["json", form]), json.loads(record.value)
        assert list(example) == list(found)
        for inner in {"data", "event"} & set(example) if form != "event" else ():
            assert example.pop(inner)["id"] == found.pop(inner)["id"]
        assert example == found


def test_attributes_and_their_examples_are_those_of_the_page(kafka, bridge, payload, topic):
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}])
    assert bridge.post_signed(payload(REAL)).status == 200
    [record] = kafka.read(topic, count=1)
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `([^`]*)` \|$", PAGE, re.M))
    assert {"ce_" + name: value for name, value in rows.items()} == \
        {name: value for name, value in record.headers.items() if name not in ("content-type", "ce_specversion")}


def lead_event(bridge, action, lead_id, name, minute):
    event = bridge.event("lead", action, lead_id=lead_id)
    event["date_created"] = event["date_updated"] = f"2026-11-23T10:{minute:02}:00.000000"
    if action != "deleted":
        event["data"]["name"] = name
    return event


def repeat(kafka, record):
    """Publishes a record a second time, as a crash of the bridge may."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(record.topic, record.value, record.key, headers=[(name, value.encode()) for name, value in record.header_list])
    assert producer.flush(20) == 0


def test_the_consumer_of_kafka_runs(kafka, bridge, run_block, topic, tmp_path):
    kafka.create_topics(topic)
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}])
    one, two, three = (bridge.maker.id("lead") for _ in range(3))
    for event in (lead_event(bridge, "created", one, "first", 1), lead_event(bridge, "updated", one, "last", 5),
                  lead_event(bridge, "updated", one, "late but older", 3), lead_event(bridge, "created", two, "gone", 1),
                  lead_event(bridge, "deleted", two, None, 2)):
        assert bridge.post_signed(event).json["status"] == "accepted"
    repeat(kafka, kafka.read(topic, count=5)[0])
    environment = {"KAFKA": kafka.bootstrap, "TOPIC": topic, "DATABASE": str(tmp_path / "leads.db")}
    program = run_block("kafka", **environment)

    def leads(where):
        program.check()
        try:
            with sqlite3.connect(tmp_path / "leads.db", timeout=10) as database:
                return database.execute("select name, is_deleted from leads where id = ?", (where,)).fetchone()
        except sqlite3.OperationalError:  # it has not made its tables
            return None

    wait_until(lambda: leads(two) == ("gone", 1), 60, lambda: f"the second lead is deleted: {program.log()}")
    assert leads(one) == ("last", 0)
    program.signal(signal.SIGINT)
    assert program.child.wait(20) != 0 and "KeyboardInterrupt" in program.log()
    assert bridge.post_signed(lead_event(bridge, "created", three, "third", 6)).status == 200
    program = run_block("kafka", **environment)
    wait_until(lambda: leads(three) == ("third", 0), 60, lambda: f"it goes on where it stopped: {program.log()}")
    with sqlite3.connect(tmp_path / "leads.db", timeout=10) as database:
        assert database.execute("select count(*) from done").fetchone() == (6,)


def test_the_consumer_of_mqtt_runs(mosquitto, make_bridge, run_block):
    mosquitto.configure("allow_anonymous true\nlog_type all\n")
    bridge = make_bridge(mosquitto=mosquitto.start()).start(
        topic_map=[{"object_type": "*", "mqtt": {"topic": "close/{object_type}/{action}", "qos": 1}}])
    environment = {"MQTT": mosquitto.url, "TOPIC": "close/#", "PYTHONUNBUFFERED": "1"}
    program = run_block("mqtt", **environment)
    wait_until(lambda: "Received SUBSCRIBE from printer" in mosquitto.process.log(), 30, lambda: f"it subscribes: {program.log()}")
    event = bridge.event("activity.note", "created")
    assert bridge.post_signed(event).status == 200
    wait_until(lambda: program.log().endswith("\n"), 30, "it prints the event")
    assert program.log() == f"{event['date_updated']}Z activity.note created {event['object_id']}\n"
    program.kill()
    missed = bridge.event("lead", "updated")
    assert bridge.post_signed(missed).status == 200
    bridge.wait_published("mqtt", 2)
    program = run_block("mqtt", **environment)
    wait_until(lambda: missed["object_id"] in program.log(), 30, lambda: f"the broker kept it: {program.log()}")


def test_the_configuration_of_the_way_with_a_close_account_is_right(bridge):
    page = (ROOT / "docs" / "close-account.md").read_text(encoding="utf-8")
    [configuration] = re.findall(r"```yaml\n(.*?)```", page, re.S)
    path = bridge.folder / "page.yaml"
    path.write_text(configuration)
    done = bridge.run("check", "-c", path, env={"CLOSE_API_KEY": "api_1.2"})
    assert done.returncode == 0, done.stderr
