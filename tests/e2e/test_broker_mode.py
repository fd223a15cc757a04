"""acknowledge: broker. A 2xx means that every destination has the event; nothing is kept on disk (DESIGN section 4)."""
import time

import pytest

from tests.e2e.bridge import Load
from tests.peers.process import wait_until


@pytest.fixture
def settings(topic):
    return {
        "journal": {"acknowledge": "broker", "acknowledge_timeout": "3s"},
        "dead_letters": {"kafka": {"topic": topic + "-dead"}},
        "topic_map": [{"object_type": "*", "kafka": {"topic": topic},
                       "mqtt": {"topic": topic + "/{action}", "qos": 1}}],
    }


def status_of(answer):
    return answer.status, answer.json.get("status")


def start(bridge, settings):
    bridge.start(**settings)
    bridge.wait_up("kafka")
    return bridge


def test_an_accepted_event_is_at_both_brokers_when_the_answer_comes(kafka, mosquitto, make_bridge, topic, settings):
    bridge = start(make_bridge(kafka, mosquitto.start()), settings)
    bridge.wait_up("mqtt")
    subscriber = mosquitto.subscribe(topic + "/#")
    event = bridge.event()
    assert status_of(bridge.post_signed(event)) == (200, "accepted")
    assert [record.event_id for record in kafka.read_all(topic)] == [event["id"]]
    bridge.kill()
    assert [message.event_id for message in subscriber.wait(1)] == [event["id"]]
    assert not (bridge.folder / "journal").exists(), "the process keeps no events on disk"


def test_nothing_is_published_while_a_destination_is_known_to_be_down(kafka, mosquitto, make_bridge, topic, settings):
    bridge = start(make_bridge(kafka, mosquitto), settings)
    wait_until(lambda: bridge.readyz().json["publishers"]["mqtt"] == "down", 30, "it is known to be down")
    event = bridge.event()
    before = time.monotonic()
    answer = bridge.post_signed(event)
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert time.monotonic() - before < 2.5, "known to be down: no waiting for acknowledge_timeout, which is 3 s"
    assert bridge.readyz().status == 503
    mosquitto.start()
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.wait_up("mqtt")
    assert status_of(bridge.post_signed(event)) == (200, "accepted")
    assert status_of(bridge.post_signed(event)) == (200, "duplicate")
    assert [record.event_id for record in kafka.read_all(topic)] == [event["id"]]
    assert [message.event_id for message in subscriber.wait(1)] == [event["id"]]


def test_a_destination_that_dies_in_between_gives_503_in_time_and_the_retry_completes_it(
        kafka, mosquitto, make_bridge, topic, settings):
    bridge = start(make_bridge(kafka, mosquitto.start()), settings)
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.wait_up("mqtt")
    event = bridge.event()
    mosquitto.pause()  # connected, but silent: nobody knows yet
    before = time.monotonic()
    answer = bridge.post_signed(event)
    waited = time.monotonic() - before
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert waited < 9, "acknowledge_timeout is 3 s; without it the answer comes after 12 s"
    mosquitto.resume()
    bridge.wait_up("mqtt")
    assert bridge.close.deliver(event).status == 200, "Close's retry"
    assert status_of(bridge.post_signed(event)) == (200, "duplicate")
    subscriber.until(lambda messages: event["id"] in {message.event_id for message in messages})
    assert {record.event_id for record in kafka.read_all(topic)} == {event["id"]}


def test_what_is_no_event_is_answered_when_its_dead_letter_is_at_kafka(kafka, mosquitto, make_bridge, topic, settings):
    bridge = start(make_bridge(kafka, mosquitto.start()), settings)
    bridge.wait_up("mqtt")
    assert status_of(bridge.post_signed(b'{"event": 1}')) == (200, "dead_lettered")
    assert [record.value for record in kafka.read_all(topic + "-dead")] == [b'{"event": 1}']


def test_load_through_a_dying_broker_loses_nothing(own_kafka, mosquitto, make_bridge, topic, settings):
    kafka = own_kafka().start()
    kafka.create_topics(topic, topic + "-dead")
    bridge = start(make_bridge(kafka, mosquitto.start()), settings)
    bridge.wait_up("mqtt")
    with Load(bridge) as load:
        load.wait(200)
        kafka.kill()
        bridge.wait_up("kafka", False)
        kafka.start()
        bridge.wait_up("kafka")
        load.wait(len(load.accepted) + 200)
    assert not load.unanswered
    assert {status for status, _ in load.refused} <= {503}
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(load.accepted) <= {record.event_id for record in records}, 30)


@pytest.mark.parametrize("change", [
    {"accounts": [{"name": "main", "signature_keys": ["00" * 32], "sync": "startup", "api_key": "api_x",
                   "webhook_url": "https://example.com/webhooks/main"}]},
    {"dead_letters": {}},
    {"topic_map": [{"object_type": "*", "mqtt": {"topic": "a", "qos": 0}}]},
])
def test_check_refuses_what_broker_mode_cannot_keep(kafka, mosquitto, make_bridge, settings, change):
    bridge = make_bridge(kafka, mosquitto)
    bridge.configure(**settings)
    assert bridge.run("check", "-c", bridge.config_path).returncode == 0
    bridge.config.update(change)
    bridge.configure()
    assert bridge.run("check", "-c", bridge.config_path).returncode == 78
