"""What Close delivers twice is published once."""
import threading


def test_the_same_event_twice_is_published_once_also_across_a_restart(kafka, mosquitto, make_bridge):
    bridge = make_bridge(kafka, mosquitto)
    messages = mosquitto.subscribe("#")
    bridge.start()
    event = bridge.close.maker.event()
    assert bridge.post(event).json["status"] == "accepted"
    assert bridge.post(event).json["status"] == "duplicate"
    bridge.restart()
    assert bridge.post(event).json["status"] == "duplicate"
    bridge.kill()
    bridge.start()
    assert bridge.post(event).json["status"] == "duplicate"
    assert len(kafka.read(bridge.topic("close.lead"), 1, extra=1)) == 1
    assert len(messages.wait(1)) == 1


def test_many_at_once_are_accepted_once(kafka, make_bridge):
    bridge = make_bridge(kafka).start()
    event = bridge.close.maker.event()
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(bridge.post(event).json["status"])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == ["accepted"] + ["duplicate"] * 15
    assert len(kafka.read(bridge.topic("close.lead"), 1, extra=1)) == 1


def test_the_same_id_and_date_with_other_bytes_is_published_and_counted(kafka, make_bridge):
    bridge = make_bridge(kafka).start()
    event = bridge.close.maker.event()
    assert bridge.post(event).json["status"] == "accepted"
    assert bridge.post({**event, "request_id": "req_other"}).json["status"] == "accepted"
    assert bridge.post(event).json["status"] == "duplicate"
    assert len(kafka.read(bridge.topic("close.lead"), 2, extra=0.5)) == 2
    assert bridge.metric("event_conflicts_total") == 1
