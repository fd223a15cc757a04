"""Starts, stops and second instances (RELIABILITY F23, F24)."""
import time

import pytest

from tests.e2e.bridge import Load
from tests.peers.process import wait_until


def routes(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


@pytest.mark.row("F23")
@pytest.mark.parametrize("round_number", range(3))
def test_sigterm_under_load_ends_with_0_and_loses_nothing(kafka, bridge, topic, round_number):
    bridge.start(topic_map=routes(topic))
    with Load(bridge, threads=8) as load:
        load.wait(100 + 150 * round_number)
        before = time.monotonic()
        assert bridge.terminate() == 0
        assert time.monotonic() - before < 10
    assert {status for status, _ in load.refused} <= {503}, "a stop is no reason to refuse an event for good"
    bridge.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(load.accepted) <= {record.event_id for record in records}, 30)
        ids = [record.event_id for record in reader.records]
        assert len(ids) == len(set(ids)), "an orderly stop publishes nothing twice"


@pytest.mark.row("F23")
def test_sigterm_with_every_broker_down_ends_with_0_in_time(own_kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(own_kafka(), mosquitto).start(topic_map=[
        {"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
    for _ in range(100):
        assert bridge.close.post(bridge.event()).status == 200
    assert bridge.terminate() == 0
    assert 'event=process.stopped left="events in the journal, published after the next start"' in bridge.log()


@pytest.mark.row("F23")
def test_sigterm_twice_is_as_good_as_once(kafka, bridge, topic):
    bridge.start(topic_map=routes(topic))
    with Load(bridge) as load:
        load.wait(50)
        bridge.process.child.terminate()
        assert bridge.terminate() == 0
    bridge.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(load.accepted) <= {record.event_id for record in records}, 30)


@pytest.mark.row("F24")
def test_a_second_instance_on_the_same_journal_refuses(kafka, make_bridge, topic):
    first = make_bridge(kafka).start(topic_map=routes(topic))
    second = make_bridge(kafka, name="second")
    second.configure(topic_map=routes(topic), journal=first.config["journal"])
    second.launch()
    wait_until(lambda: not second.process.is_running, 15, "the second instance ends")
    assert second.process.child.returncode == 69, "it refuses, it does not crash, and the file has no mistake"
    assert str(first.config["journal"]["path"]) in second.log(), second.log()
    event = first.event()
    assert first.post_signed(event).json["status"] == "accepted"
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]]


@pytest.mark.row("F24")
def test_a_port_in_use_is_an_error_that_names_it(kafka, make_bridge, topic):
    first = make_bridge(kafka).start(topic_map=routes(topic))
    second = make_bridge(kafka, name="second")
    second.configure(topic_map=routes(topic), control={"address": first.control_address})
    second.launch()
    wait_until(lambda: not second.process.is_running, 15, "the second instance ends")
    assert second.process.child.returncode == 69
    assert first.control_address in second.log()
    assert "process.stopped" not in second.log(), "it did not start"


@pytest.mark.row("F23")
def test_an_idle_connection_does_not_delay_the_stop(bridge, topic):
    import socket
    bridge.start(topic_map=routes(topic))
    host, port = bridge.address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as idle, socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /webhooks/main HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
        assert bridge.terminate() == 0
        assert idle


def test_events_are_published_after_a_restart_with_another_map(own_kafka, make_bridge, topic):
    """Routing is decided at dispatch, by the map then in force."""
    kafka = own_kafka()
    bridge = make_bridge(kafka).start(topic_map=routes(topic + "-old"))
    event = bridge.event()
    assert bridge.post_signed(event).status == 200
    assert bridge.terminate() == 0
    bridge.start(topic_map=routes(topic + "-new"))
    kafka.start()
    assert [record.event_id for record in kafka.read(topic + "-new", count=1)] == [event["id"]]
    assert topic + "-old" not in kafka.topics()
