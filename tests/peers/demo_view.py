#!/usr/bin/env python3
"""Shows what arrives on Kafka and MQTT as a live table; one line per event once it was seen on both.

With --pairs it ends with exit code 0 as soon as one event of every pair of the catalog was seen on both brokers, with 1
when that takes longer than --timeout.
"""
import argparse
import pathlib
import queue
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import confluent_kafka  # noqa: E402
import paho.mqtt.client as mqtt  # noqa: E402

from tests.peers.close_simulator import catalog  # noqa: E402

COLUMNS = "{:<12} {:<34} {:<12} {:<36} {:>9}  {:<12} {}"


class Arrival:
    """An event and where it was seen."""

    def __init__(self):
        self.kafka = None
        self.mqtt = None


def read_kafka(bootstrap, arrivals):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap, "group.id": "close-bridge-demo", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 500, "log_level": 0})
    known = set()
    while True:
        # The embedded Kafka has no regular expressions for subscriptions: topics are assigned as they appear.
        topics = consumer.list_topics(timeout=5).topics
        for name, topic in topics.items():
            for partition in topic.partitions:
                if (name, partition) not in known:
                    known.add((name, partition))
                    consumer.incremental_assign([confluent_kafka.TopicPartition(
                        name, partition, confluent_kafka.OFFSET_BEGINNING)])
        for message in consumer.consume(200, 0.2):
            if message.error() is None:
                arrivals.put(("kafka", message))


def read_mqtt(port, arrivals):
    client = mqtt.Client(protocol=mqtt.MQTTv5)
    ready = threading.Event()
    client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _c, _d, message: arrivals.put(("mqtt", message))
    client.connect("127.0.0.1", port)
    client.loop_start()
    ready.wait(10)


def attributes_of(source, message):
    if source == "kafka":
        return {name.removeprefix("ce_"): value.decode() for name, value in message.headers() or []}
    return dict(getattr(message.properties, "UserProperty", []) or [])


def type_and_action(attributes):
    object_type, _, action = attributes["type"].removeprefix("com.close.").rpartition(".")
    return object_type, action


def shorten(text, width):
    return text if len(text) <= width else text[:width - 1] + "…"


def row(attributes, arrival):
    object_type, action = type_and_action(attributes)
    record = arrival.kafka
    place = f"{record.partition()}/{record.offset()}"
    key = record.key().decode() if record.key() else "-"
    return COLUMNS.format(time.strftime("%H:%M:%S") + f".{int(time.time() * 1000) % 1000:03d}", shorten(object_type, 34), action,
                          shorten(record.topic(), 36), place, shorten(key, 12), arrival.mqtt.topic)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--mqtt-port", type=int, required=True)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--timeout", type=float, default=90)
    parser.add_argument("--ready-file", help="made when both brokers are being read")
    arguments = parser.parse_args()
    arrivals = queue.Queue()
    read_mqtt(arguments.mqtt_port, arrivals)
    threading.Thread(target=read_kafka, args=(arguments.bootstrap, arrivals), daemon=True).start()
    if arguments.ready_file:
        pathlib.Path(arguments.ready_file).touch()
    wanted = {(object_type, action) for object_type, action, *_ in catalog()}
    seen = {}
    complete = set()
    deadline = time.monotonic() + arguments.timeout
    print(COLUMNS.format("TIME", "OBJECT TYPE", "ACTION", "KAFKA TOPIC", "PART/OFF", "KEY", "MQTT TOPIC"), flush=True)
    while not arguments.pairs or wanted - complete:
        try:
            source, message = arrivals.get(timeout=0.5)
        except queue.Empty:
            if arguments.pairs and time.monotonic() > deadline:
                break
            continue
        attributes = attributes_of(source, message)
        if "id" not in attributes:
            continue
        arrival = seen.setdefault(attributes["id"], Arrival())
        setattr(arrival, source, message)
        if arrival.kafka and arrival.mqtt:
            print(row(attributes, arrival), flush=True)
            complete.add(type_and_action(attributes))
            seen.pop(attributes["id"])
    if arguments.pairs:
        missing = sorted(wanted - complete)
        print(f"\n{len(wanted) - len(missing)} of {len(wanted)} kinds of events were seen on both brokers")
        for object_type, action in missing:
            print(f"  missing: {object_type} {action}")
        sys.exit(1 if missing else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
