"""One broker's trouble is not another's, and one topic's is not another's (DESIGN sections 1 and 6)."""
import re
import threading
import time

import pytest

from tests.e2e.bridge import Load
from tests.peers.process import wait_until


def routes(topic):
    return [{"object_type": "*", "kafka": {"topic": topic},
             "mqtt": {"topic": topic + "/{object_type}/{action}", "qos": 1}}]


def post_all(bridge, count):
    events = [bridge.event() for _ in range(count)]
    for event in events:
        assert bridge.close.post(event).json["status"] == "accepted"
    return [event["id"] for event in events]


@pytest.mark.row("F10")
def test_events_wait_for_a_kafka_that_is_down_at_the_start(own_kafka, make_bridge, topic):
    kafka = own_kafka()
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic, "key": "{action}"}}])
    ids = post_all(bridge, 50)
    assert bridge.readyz().status == 200, "events can be accepted"
    assert bridge.metrics().value("publisher_up", publisher="kafka") == 0
    kafka.start()
    assert [record.event_id for record in kafka.read(topic, count=50)] == ids
    bridge.wait_up("kafka")


def test_the_log_names_the_broker_that_answered(kafka, bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    [up] = wait_until(lambda: re.findall(r"event=publisher\.up .*", bridge.log()), 30, "Kafka is up")
    assert up == f"event=publisher.up publisher=kafka broker={kafka.bootstrap}/1", "its address and its id"


def test_events_wait_for_a_mosquitto_that_is_down_at_the_start(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto).start(topic_map=routes(topic))
    ids = post_all(bridge, 50)
    kafka.read(topic, count=50)
    assert bridge.readyz().status == 200
    # A subscriber has to be there before the bridge is: it keeps nothing for those who come later.
    mosquitto.configure("listener 0 127.0.0.1\n")
    bridge.terminate()
    mosquitto.configure("allow_anonymous true\n")
    mosquitto.start()
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.start()
    assert [message.event_id for message in subscriber.wait(50)] == ids


def test_the_connection_to_mosquitto_comes_back_by_itself(mosquitto, make_bridge, topic):
    mosquitto.start()
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge = make_bridge(None, mosquitto).start(topic_map=[
        {"object_type": "*", "mqtt": {"topic": topic + "/{action}", "qos": 1}}])
    ids = post_all(bridge, 10)
    subscriber.wait(10)
    bridge.wait_up("mqtt")
    mosquitto.kill()
    bridge.wait_up("mqtt", False)
    first = set(post_all(bridge, 20))
    mosquitto.start()
    bridge.wait_up("mqtt")
    bridge.wait_published("mqtt", 30)
    subscriber.wait_subscribed()
    last = post_all(bridge, 10)
    subscriber.until(lambda messages: set(last) <= {message.event_id for message in messages})
    assert bridge.metrics().value("events_dead_total") == 0
    assert {message.event_id for message in subscriber.messages} <= set(ids) | first | set(last)


def test_kafka_does_not_wait_for_a_mosquitto_that_is_down(kafka, mosquitto, make_bridge, topic):
    kafka.create_topics(topic)
    bridge = make_bridge(kafka, mosquitto).start(topic_map=routes(topic))
    bridge.wait_up("kafka")
    lags = []
    delays = []
    sent = {}
    done = threading.Event()

    def measure():
        with kafka.reader(topic) as reader:
            while not done.is_set():
                for record in reader.poll(0.05):
                    delays.append(time.monotonic() - sent[record.event_id])
                lags.append(bridge.metrics().value("publisher_lag_seconds", publisher="kafka"))

    measuring = threading.Thread(target=measure)
    measuring.start()
    count = 0
    until = time.monotonic() + 5
    while time.monotonic() < until:
        event = bridge.event()
        sent[event["id"]] = time.monotonic()
        assert bridge.close.post(event).status == 200
        count += 1
    wait_until(lambda: len(delays) >= count, 20, lambda: f"{count} records, {len(delays)} came")
    done.set()
    measuring.join()
    assert sorted(lags)[int(len(lags) * 0.9)] < 1.0, "it does not grow"
    assert sorted(delays)[int(len(delays) * 0.99)] < 1.0
    assert bridge.metrics().value("publisher_up", publisher="mqtt") == 0
    assert bridge.metrics().value("publisher_lag_events", publisher="mqtt") == count


def test_mosquitto_does_not_wait_for_a_kafka_that_is_stopped(own_kafka, mosquitto, make_bridge, topic):
    kafka = own_kafka().start()
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=routes(topic))
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.wait_up("kafka")
    kafka.pause()
    ids = post_all(bridge, 30)
    assert [message.event_id for message in subscriber.wait(30)] == ids
    kafka.resume()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: {record.event_id for record in records} == set(ids), 60)


@pytest.mark.row("F10")
def test_a_topic_that_does_not_exist_holds_up_no_other(own_kafka, make_bridge, topic):
    kafka = own_kafka(auto_create_topics_enable="false").start()
    known, unknown = topic + "-known", topic + "-unknown"
    kafka.create_topics(known)
    bridge = make_bridge(kafka).start(topic_map=[
        {"object_type": "lead", "kafka": {"topic": known}}, {"object_type": "contact", "kafka": {"topic": unknown}}])
    lead = bridge.maker.id("lead", 43)
    waiting, flowing = [], []
    for _ in range(50):
        for kind, ids in (("contact", waiting), ("lead", flowing)):
            event = bridge.event(kind, "updated", lead_id=lead)
            assert bridge.close.post(event).json["status"] == "accepted"
            ids.append(event["id"])
    assert [record.event_id for record in kafka.read(known, count=50, timeout=60)] == flowing
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="kafka") == 50, 60, "50 events are parked")
    assert unknown not in kafka.topics()
    assert bridge.metrics().value("events_dead_total") == 0
    bridge.restart()  # they are on disk, not only in memory
    more = bridge.event("contact", "updated", lead_id=lead)
    assert bridge.post_signed(more).status == 200
    kafka.create_topics(unknown)
    assert [record.event_id for record in kafka.read(unknown, count=51, timeout=90)] == waiting + [more["id"]]
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="kafka") == 0, 30, "nothing is parked")


@pytest.mark.row("F22")
def test_a_record_that_the_topic_cannot_take_is_a_dead_letter_and_others_flow(own_kafka, make_bridge, topic):
    kafka = own_kafka().start()
    kafka.create_topics(topic, max_message_bytes="4000")
    kafka.stop()  # so that all three wait, and go out in one batch: the broker refuses it as a whole
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    small, large, after = (bridge.event(lead_id="lead_1") for _ in range(3))
    large["data"]["description"] = bridge.maker.id("noise", 20000)  # random: compression does not save it
    for event in (small, large, after):
        assert bridge.post_signed(event).json["status"] == "accepted"
    kafka.start()
    assert [record.event_id for record in kafka.read(topic, count=2)] == [small["id"], after["id"]]
    wait_until(lambda: bridge.metrics().value("events_dead_total", publisher="kafka") == 1, 20, "one dead letter")
    assert bridge.readyz().json["journal"]["dead_letters"] == 1


def test_a_topic_that_mosquitto_forbids_holds_up_no_other(mosquitto, make_bridge, topic):
    rights = mosquitto.write("rights", "topic readwrite open/#\ntopic read #\n")
    mosquitto.configure(f"allow_anonymous true\nacl_file {rights}\n")
    mosquitto.start()
    subscriber = mosquitto.subscribe("#")
    bridge = make_bridge(None, mosquitto).start(topic_map=[
        {"object_type": "lead", "mqtt": {"topic": "open/lead", "qos": 1}},
        {"object_type": "contact", "mqtt": {"topic": "closed/contact", "qos": 1}}])
    contact, lead = bridge.event("contact"), bridge.event("lead")
    for event in (contact, lead):
        assert bridge.post_signed(event).status == 200
    assert [message.event_id for message in subscriber.wait(1)] == [lead["id"]]
    metrics = bridge.metrics
    wait_until(lambda: metrics().value("parked_events", publisher="mqtt") == 1, 30, "the forbidden one waits")
    assert metrics().value("events_dead_total") == 0


def test_load_continues_through_a_broker_that_comes_and_goes(kafka, mosquitto, make_bridge, topic):
    mosquitto.start()
    bridge = make_bridge(kafka, mosquitto).start(topic_map=routes(topic))
    with Load(bridge, threads=2) as load:
        for _ in range(3):
            load.wait(len(load.accepted) + 100)
            mosquitto.kill()
            load.wait(len(load.accepted) + 100)
            mosquitto.start()
            bridge.wait_up("mqtt")
    assert not load.refused and not load.unanswered
    bridge.wait_published("mqtt", len(load.accepted), timeout=60)
    with kafka.reader(topic) as reader:
        reader.until(lambda records: len(records) >= len(load.accepted), 60)
        assert sorted(record.event_id for record in reader.records) == sorted(load.accepted)
