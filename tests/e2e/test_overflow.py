"""Publishers that may lose, and publishers that were removed: neither stops the others."""


def big_event(bridge):
    event = bridge.event()
    event["data"]["description"] = bridge.maker.id("text", 20000)
    return event


def test_a_publisher_that_may_lose_gives_way_and_the_other_gets_everything(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto)  # mosquitto is down all the time
    bridge.config["publishers"]["mqtt"]["overflow"] = "drop_oldest"
    bridge.start(journal={"max_size": "8MiB"},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic}}])
    sent = []
    for _ in range(1500):  # some 30 MB
        event = big_event(bridge)
        assert bridge.close.deliver(event).status == 200
        sent.append(event["id"])
        if len(sent) % 50 == 0:  # Kafka keeps up, so that only mosquitto can be what fills the journal
            bridge.wait_published("kafka", len(sent))
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(sent) <= {record.event_id for record in records}, 60)
    assert bridge.metrics().value("events_dropped_total", publisher="mqtt") > 500
    assert bridge.metrics().value("events_dropped_total", publisher="kafka") == 0
    assert bridge.metrics().value("webhooks_total", result="unavailable") == 0
    # What was not dropped arrives when the broker comes.
    mosquitto.start()
    subscriber = mosquitto.subscribe(topic)
    last = big_event(bridge)
    assert bridge.close.post(last).status == 200
    subscriber.until(lambda messages: last["id"] in {message.attributes.get("id") for message in messages})


def test_a_removed_publisher_is_shown_and_can_be_dropped(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto)
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic}}])
    assert bridge.close.post(bridge.event()).status == 200
    assert bridge.terminate() == 0
    del bridge.config["publishers"]["mqtt"]
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bridge.wait_up("kafka")
    assert bridge.readyz().json["publishers"] == {"kafka": "up", "mqtt": "removed"}
    refused = bridge.run("journal", "-c", bridge.config_path, "drop-publisher", "mqtt")
    assert refused.returncode == 69 and "in use by process" in refused.stderr
    assert bridge.terminate() == 0
    assert bridge.run("journal", "-c", bridge.config_path, "drop-publisher", "kafka").returncode == 64
    assert "mqtt" in bridge.run("journal", "-c", bridge.config_path, "stats").stdout
    assert bridge.run("journal", "-c", bridge.config_path, "drop-publisher", "mqtt").returncode == 0
    assert bridge.run("journal", "-c", bridge.config_path, "drop-publisher", "mqtt").returncode == 65
    assert "mqtt" not in bridge.run("journal", "-c", bridge.config_path, "stats").stdout
    bridge.start()
    bridge.wait_up("kafka")
    assert bridge.readyz().json["publishers"] == {"kafka": "up"}
