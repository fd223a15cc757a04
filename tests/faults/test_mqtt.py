"""An MQTT broker that dies, hangs, refuses and lies (RELIABILITY F13)."""
import time

import paho.mqtt.client as mqtt
import pytest

from tests.faults.checker import judge
from tests.faults.journal import Journal
from tests.peers.fake_mqtt import MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM, FakeMqtt
from tests.peers.process import wait_until

pytestmark = pytest.mark.row("F13")

WINDOW = 500        # DESIGN section 6: events that may be published twice, to MQTT
KEEPALIVE = 5       # seconds, as tests/e2e/bridge.py sets it
NOTICED_WITHIN = 15  # seconds: a connection that is silent
BACK_WITHIN = 15    # seconds: after trouble ends
PARKED = {0x80: "broker_refused", 0x83: "broker_refused", 0x87: "not_authorized", 0x90: "invalid_topic", 0x97: "quota_exceeded"}
DEAD = {0x95: "too_large", 0x99: "payload_format_invalid"}


@pytest.fixture
def fake():
    broker = FakeMqtt()
    yield broker
    broker.close()


def start(make_bridge, broker, topic, **mqtt):
    bridge = make_bridge(None, broker)
    bridge.config["publishers"]["mqtt"].update(mqtt)
    return bridge.start(topic_map=[{"object_type": "*", "mqtt": {"topic": topic, "qos": 1}}])


def lag(bridge):
    metrics = bridge.metrics()
    return metrics.value("publisher_lag_events", publisher="mqtt") + metrics.value("parked_events", publisher="mqtt")


def wait_settled(bridge, timeout=60):
    wait_until(lambda: lag(bridge) == 0, timeout, lambda: f"everything is published: {lag(bridge)} wait\n{bridge.log()[-2000:]}",
               interval=0.1)


def send_some(sender, count=50):
    before = sender.accepted
    with sender.running():
        wait_until(lambda: sender.accepted >= before + count, 30, "events are accepted")


def check_fake(fake, bridge, ledger, duplicates):
    """Only what the broker acknowledged with a success code counts; its order is that in which it came to the broker."""
    bridge.kill()
    delivered = {publish.event_id for publish in fake.delivered}
    ledger.take_mqtt(publish for publish in fake.publishes
                     if publish.event_id in delivered and (publish.code is None or publish.code < 0x80))
    journal = Journal(bridge.config["journal"]["path"])
    assert journal.cursors["mqtt"] <= len(ledger.accepted_ids())
    ledger.take_journal(journal, "mqtt")
    return judge(ledger, "mqtt").check(duplicates=duplicates)


def test_whatever_mosquitto_does_the_connection_comes_back_and_nothing_is_lost(mosquitto, make_bridge, make_sender, ledger, topic, tier,
                                                                              figures):
    """It keeps nothing for a subscriber that is away, so events are sent only while the subscriber is there, or when it hangs."""
    subscriber = mosquitto.start().subscribe(topic)
    bridge = start(make_bridge, mosquitto, topic, client_id="bridge-1")
    sender = make_sender(bridge, rate=300, lines=8, persistent=True)
    noticed, back = {}, {}
    for name, begin, end in (("killed", mosquitto.kill, mosquitto.start), ("stopped", mosquitto.stop, mosquitto.start),
                             ("hangs", mosquitto.pause, mosquitto.resume)):
        for _ in range(tier.pick(1, 20)):
            send_some(sender)
            subscriber.until(lambda messages: ledger.accepted_ids() <= {message.event_id for message in messages})
            moment = time.monotonic()
            begin()
            if name == "hangs":
                send_some(sender)
            bridge.wait_up("mqtt", False, timeout=NOTICED_WITHIN)
            noticed[name] = max(noticed.get(name, 0), time.monotonic() - moment)
            moment = time.monotonic()
            end()
            bridge.wait_up("mqtt", timeout=BACK_WITHIN)
            back[name] = max(back.get(name, 0), time.monotonic() - moment)
            subscriber.wait_subscribed()
    take_over(mosquitto, bridge)
    send_some(sender)
    wait_settled(bridge)
    subscriber.until(lambda messages: ledger.accepted_ids() <= {message.event_id for message in messages})
    ledger.take_mqtt(subscriber.messages)
    verdict = judge(ledger, "mqtt").check(duplicates=4 * tier.pick(1, 20) * WINDOW)
    figures(accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["mqtt"],
            noticed_s={name: round(seconds, 1) for name, seconds in noticed.items()},
            back_s={name: round(seconds, 1) for name, seconds in back.items()})


def take_over(mosquitto, bridge):
    """Another client comes with the same id; the bridge comes back."""
    other = mqtt.Client(client_id="bridge-1", protocol=mqtt.MQTTv5)
    downs = bridge.log().count("event=publisher.down publisher=mqtt")
    other.connect("127.0.0.1", mosquitto.port)
    other.loop_start()
    wait_until(lambda: bridge.log().count("event=publisher.down publisher=mqtt") > downs, 10, "the bridge was put out")
    other.loop_stop()
    other.disconnect()
    bridge.wait_up("mqtt", timeout=BACK_WITHIN)


@pytest.mark.parametrize("code", [0x87, 0x88, 0x97, 0x9F])
def test_a_refused_connection_is_tried_again_for_ever(fake, make_bridge, make_sender, ledger, topic, figures, code):
    fake.connack = code
    bridge = start(make_bridge, fake, topic)
    sender = make_sender(bridge, rate=300, lines=4)
    send_some(sender)
    wait_until(lambda: len(fake.connects) >= 4, 30, "it tries again")
    assert bridge.metrics().value("publisher_up", publisher="mqtt") == 0
    assert not fake.publishes
    fake.connack = 0
    bridge.wait_up("mqtt", timeout=35)
    wait_settled(bridge)
    check_fake(fake, bridge, ledger, duplicates=0)
    figures(refusals=len(fake.connects) - 1)


def test_only_a_success_code_counts_as_delivered(fake, make_bridge, make_sender, ledger, topic, tier, figures):
    strikes = tier.pick(1, 4)
    bridge = start(make_bridge, fake, topic)
    bridge.wait_up("mqtt")
    sender = make_sender(bridge, rate=300, lines=4)
    for code in [*PARKED, *DEAD, 0x10]:
        struck = []

        def answer(publish, code=code, struck=struck):
            if len(struck) < strikes:
                struck.append(publish.event_id)
                return code
            return 0

        fake.puback = answer
        dead = bridge.metrics().value("events_dead_total", publisher="mqtt")
        send_some(sender, 20)
        wait_settled(bridge)
        assert len(struck) == strikes
        assert (bridge.metrics().value("events_dead_total", publisher="mqtt") > dead) == (code in DEAD), hex(code)
        if code in PARKED:
            assert f"reason={PARKED[code]}" in bridge.log()
    verdict = check_fake(fake, bridge, ledger, duplicates=0)
    figures(reason_codes=len(PARKED) + len(DEAD) + 1, accepted=verdict.accepted, lost=0)


def test_a_broker_that_takes_small_packets_only_gets_those(fake, make_bridge, make_sender, ledger, topic):
    fake.properties = bytes([MAXIMUM_PACKET_SIZE]) + (2500).to_bytes(4, "big")
    bridge = start(make_bridge, fake, topic)
    bridge.wait_up("mqtt")
    sender = make_sender(bridge, rate=300, lines=4, sizes=(100, 4000, 1000))
    send_some(sender, 100)
    wait_settled(bridge)
    dead = bridge.metrics().value("events_dead_total", publisher="mqtt", reason="too_large")
    assert 5 < dead < 95
    check_fake(fake, bridge, ledger, duplicates=0)


def test_a_broker_that_takes_one_at_a_time_gets_one_at_a_time(fake, make_bridge, make_sender, ledger, topic):
    fake.properties = bytes([RECEIVE_MAXIMUM, 0, 1])
    bridge = start(make_bridge, fake, topic)
    sender = make_sender(bridge, rate=500, lines=8)
    send_some(sender, 300)
    wait_settled(bridge)
    assert fake.most_unanswered == 1
    check_fake(fake, bridge, ledger, duplicates=0)


def test_a_broker_that_hangs_up_in_the_middle_mixes_nothing_up(fake, make_bridge, make_sender, ledger, topic, dice, tier, figures):
    """Some publishes are answered, some not, and then the connection is gone: the unanswered come again, and no others."""
    hangups = tier.pick(15, 300)
    count = {"hang up": 0}

    def answer(_publish):
        if count["hang up"] < hangups and dice.random() < 0.02:
            count["hang up"] += 1
            return "hang up"
        return None if count["hang up"] < hangups and dice.random() < 0.3 else 0

    fake.puback = answer
    bridge = start(make_bridge, fake, topic)
    sender = make_sender(bridge, rate=400, lines=8, persistent=True)
    with sender.running():
        wait_until(lambda: count["hang up"] >= hangups, tier.pick(120, 1200), lambda: f"{hangups} hang-ups; there were {count}")
    fake.puback = lambda publish: 0
    fake.cut()  # what was never answered waits for this
    wait_settled(bridge)
    verdict = check_fake(fake, bridge, ledger, duplicates=hangups * WINDOW)
    figures(hang_ups=hangups, accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["mqtt"])


def test_a_session_that_is_ended_by_the_broker_and_one_that_is_silent_come_back(fake, make_bridge, make_sender, ledger, topic, figures):
    bridge = start(make_bridge, fake, topic)
    sender = make_sender(bridge, rate=300, lines=4)
    for reason in (0x8E, 0x8B, 0x98):
        connects = len(fake.connects)
        bridge.wait_up("mqtt", timeout=BACK_WITHIN)
        fake.end_session(reason)
        wait_until(lambda: len(fake.connects) > connects, BACK_WITHIN, "it connects again")
        send_some(sender, 20)
    bridge.wait_up("mqtt", timeout=BACK_WITHIN)
    moment = time.monotonic()
    fake.silent = True
    send_some(sender, 20)
    bridge.wait_up("mqtt", False, timeout=NOTICED_WITHIN)
    noticed = time.monotonic() - moment
    fake.silent = False
    bridge.wait_up("mqtt", timeout=BACK_WITHIN)
    wait_settled(bridge)
    check_fake(fake, bridge, ledger, duplicates=WINDOW)
    figures(silence_noticed_s=round(noticed, 1))


def test_packet_ids_go_round_and_are_not_mixed_up(fake, make_bridge, make_sender, ledger, topic, tier, figures):
    """There are 65,535 of them; in the release tier all are used twice."""
    total = tier.pick(2000, 140000)
    bridge = start(make_bridge, fake, topic)
    sender = make_sender(bridge, rate=6000, lines=32, sizes=(10, 40, 20))
    with sender.running():
        wait_until(lambda: sender.accepted >= total, 600, "events are accepted")
    wait_settled(bridge, timeout=600)
    verdict = check_fake(fake, bridge, ledger, duplicates=0)
    figures(packets=len(fake.publishes), lost=0, accepted=verdict.accepted)
