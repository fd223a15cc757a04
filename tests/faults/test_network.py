"""A network that is slow, cut, or silent between the bridge and its brokers (RELIABILITY F15)."""
import time

import pytest

from tests.faults.checker import judge
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy

pytestmark = pytest.mark.row("F15")

NOTICED_WITHIN = 15  # seconds: a connection that is silent
WINDOW = 4000


@pytest.fixture
def between():
    """between(port): a Proxy to that port."""
    made = []

    def make(port):
        made.append(Proxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def distant(own_kafka, mosquitto, between, make_bridge, topic):
    """(bridge, Kafka, its proxy, mosquitto's subscriber, its proxy)"""
    kafka = own_kafka()
    to_kafka = between(kafka.port)
    kafka.config.write_text(kafka.config.read_text().replace(f"advertised.listeners=PLAINTEXT://127.0.0.1:{kafka.port}",
                                                             f"advertised.listeners=PLAINTEXT://127.0.0.1:{to_kafka.port}"))
    kafka.start()
    kafka.create_topics(topic, partitions=4)
    subscriber = mosquitto.start().subscribe(topic)
    to_mosquitto = between(mosquitto.port)
    bridge = make_bridge(to_kafka, to_mosquitto)
    bridge.config["publishers"]["mqtt"].pop("keepalive")  # the default has to do
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
    bridge.wait_up("kafka")
    bridge.wait_up("mqtt")
    return bridge, kafka, to_kafka, subscriber, to_mosquitto


def lags(bridge):
    metrics = bridge.metrics()
    return [metrics.value("publisher_lag_events", publisher=name) for name in ("kafka", "mqtt")]


def wait_drained(bridge, timeout=90):
    wait_until(lambda: lags(bridge) == [0, 0], timeout, lambda: f"everything is published: {lags(bridge)}", interval=0.1)


def test_whatever_the_network_does_everything_arrives(distant, make_sender, ledger, topic, dice, tier, figures):
    bridge, kafka, to_kafka, subscriber, to_mosquitto = distant
    proxies = (to_kafka, to_mosquitto)
    sender = make_sender(bridge, rate=100, lines=4, persistent=True, sizes=(50, 2000, 300))
    took, resets = {}, []

    def is_held_up():
        return min(lags(bridge)) > 0

    def phase(name, seconds, begin, end, is_felt=is_held_up):
        for proxy in proxies:
            begin(proxy)
        with sender.running():
            time.sleep(seconds)  # the length of the trouble
            assert is_felt(), f"{name}: {lags(bridge)}"
        for proxy in proxies:
            end(proxy)
        start = time.monotonic()
        wait_drained(bridge)
        took[name] = round(time.monotonic() - start, 1)

    def setting(name, value):
        return lambda proxy: setattr(proxy, name, value)

    phase("slow answers", tier.pick(12, 60), setting("delay", 5.0), setting("delay", 0.0))
    phase("64 kbit/s", tier.pick(8, 60), setting("rate", 8000), setting("rate", 0))

    def may_reset():
        if dice.random() < 0.05:
            resets.append(time.monotonic())
            return True
        return False

    phase("resets", tier.pick(8, 120), setting("resets", may_reset), setting("resets", lambda: False), lambda: len(resets) > 5)

    def refuse(proxy):
        proxy.refuses = True
        proxy.cut()

    phase("refused", tier.pick(5, 30), refuse, setting("refuses", False))
    subscriber.until(lambda messages: ledger.accepted_ids() <= {message.event_id for message in messages})
    ledger.take_mqtt(subscriber.messages)
    ledger.take_kafka(kafka.read_all(topic, timeout=300))
    verdict = judge(ledger, "kafka", "mqtt").check(duplicates=WINDOW)
    figures(accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated, connections_reset=len(resets), drained_after_s=took)


def test_connections_that_fall_silent_are_noticed_and_replaced(distant, make_sender, ledger, topic, figures):
    bridge, kafka, to_kafka, subscriber, to_mosquitto = distant
    sender = make_sender(bridge, rate=50, lines=4, persistent=True)
    noticed = {}
    with sender.running():
        wait_until(lambda: sender.accepted > 50, 20, "events flow")
        start = time.monotonic()
        to_kafka.fall_silent()
        to_mosquitto.fall_silent()
        before = sender.accepted
        for name, count in (("kafka", lambda: bridge.metrics().value("events_published_total", publisher="kafka")),
                            ("mqtt", lambda: len(subscriber.messages))):
            wait_until(lambda: count() > before + 20, 60, f"{name} gets events again", interval=0.1)
            noticed[name] = round(time.monotonic() - start, 1)
    wait_drained(bridge)
    subscriber.until(lambda messages: ledger.accepted_ids() <= {message.event_id for message in messages})
    ledger.take_mqtt(subscriber.messages)
    ledger.take_kafka(kafka.read_all(topic, timeout=300))
    verdict = judge(ledger, "kafka", "mqtt").check(duplicates=WINDOW)
    figures(silence_ended_s=noticed, accepted_meanwhile=verdict.accepted, lost_meanwhile=0)
    assert max(noticed.values()) <= NOTICED_WITHIN, noticed
