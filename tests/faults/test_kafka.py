"""A Kafka that is down, answers with errors, or ends the producer (RELIABILITY F10-F12)."""
import time

import pytest

from tests.faults.checker import Ledger, judge
from tests.faults.journal import Journal
from tests.faults.measure import Watch
from tests.peers.process import wait_until

WINDOW = 4000
TWO_KB = (100, 2600, 1200)  # of the text in an event, which makes requests of 2 KB on average
REBUILT_WITHIN = 5     # seconds
GROWS_LESS_THAN = 32   # MiB of anonymous memory, in an outage

RETRIED = {"LEADER_NOT_AVAILABLE": 5, "NOT_LEADER_FOR_PARTITION": 6, "REQUEST_TIMED_OUT": 7, "NETWORK_EXCEPTION": 13,
           "KAFKA_STORAGE_ERROR": 56, "connection broken": -195, "CLUSTER_AUTHORIZATION_FAILED": 31,
           # of the topic, but librdkafka tries again by itself before it reports them
           "UNKNOWN_TOPIC_OR_PART": 3, "NOT_ENOUGH_REPLICAS": 19, "NOT_ENOUGH_REPLICAS_AFTER_APPEND": 20}
PARKED = {"TOPIC_AUTHORIZATION_FAILED": 29, "INVALID_TOPIC": 17, "POLICY_VIOLATION": 44, "THROTTLING_QUOTA_EXCEEDED": 89}
DEAD = {"MSG_SIZE_TOO_LARGE": 10, "RECORD_LIST_TOO_LARGE": 18, "INVALID_RECORD": 87, "INVALID_TIMESTAMP": 32}
FATAL = {"OUT_OF_ORDER_SEQUENCE_NUMBER": 45, "UNKNOWN_PRODUCER_ID": 59}


def routes(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


def start_on_mock(make_bridge, cluster, topic, **kafka):
    """With one request in flight: of several, the mock takes one behind another that failed, which no Kafka does, and librdkafka
    concludes from that that it has both."""
    bridge = make_bridge(cluster)
    bridge.config["publishers"]["kafka"].update({"max.in.flight.requests.per.connection": 1, **kafka})
    bridge.start(topic_map=routes(topic), journal={"max_size": "2GiB"})
    bridge.wait_up("kafka")
    return bridge


def lag(bridge):
    metrics = bridge.metrics()
    return metrics.value("publisher_lag_events", publisher="kafka") + metrics.value("parked_events", publisher="kafka")


def wait_settled(bridge, timeout=60):
    wait_until(lambda: lag(bridge) == 0, timeout, lambda: f"everything is published or dead: {bridge.log()[-2000:]}", interval=0.1)


@pytest.mark.row("F10")
def test_an_outage_of_kafka_delays_events_and_nothing_else(own_kafka, kafka, make_bridge, make_sender, ledger, topic, tier, tmp_path, figures):
    """Beside it runs a second bridge whose Kafka is up: what the machine does to one's answers, it does to the other's."""
    ours = own_kafka().start()
    ours.create_topics(topic, partitions=4)
    bridge = make_bridge(ours).start(journal={"max_size": "4GiB"}, topic_map=routes(topic))
    other = make_bridge(kafka, name="other").start(journal={"max_size": "4GiB", "retention": "1s"}, topic_map=routes(topic))
    bridge.wait_up("kafka")
    sender, control = (make_sender(one, rate=400, sizes=TWO_KB, persistent=True) for one in (bridge, other))
    control.ledger = Ledger(tmp_path / "other.jsonl")
    watch = Watch(bridge)
    with sender.running(), control.running():
        before = measure(watch, 10)
        ours.kill()
        outage = measure(watch, tier.pick(60, 600))
        p99, p99_beside = (one.p99_ms(since=outage["start"]) for one in (sender, control))
        ours.start()
        back = time.monotonic()
        bridge.wait_up("kafka")
        reconnected = time.monotonic() - back
        wait_until(lambda: lag(bridge) < 500, 120, "the backlog is gone", interval=0.1)
        drained = time.monotonic() - back
    watch.stop()
    sender.redeliver()
    wait_settled(bridge)
    assert set(sender.statuses) == {200}
    ledger.take_kafka(ours.read_all(topic, timeout=900))
    verdict = judge(ledger, "kafka").check(duplicates=WINDOW)
    grown = (outage["memory"] - before["memory"]) / (1 << 20)
    figures(outage_s=outage["seconds"], accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["kafka"],
            memory_grown_mib=round(grown, 1), p99_ms={"in the outage": round(p99, 1), "of a bridge without one": round(p99_beside, 1)},
            up_after_s=round(reconnected, 1), drained_after_s=round(drained, 1), slowest_health_ms=round(watch.slowest_health_ms))
    assert grown < GROWS_LESS_THAN
    assert p99 <= max(2 * p99_beside, 10)
    assert reconnected <= 10
    assert watch.slowest_health_ms < 1000


def measure(watch, seconds):
    start = time.monotonic()
    time.sleep(seconds)  # the length of the measurement
    return {"start": start, "seconds": seconds, "memory": watch.most_memory(since=start)}


@pytest.mark.row("F10")
def test_a_killed_kafka_loses_nothing_and_keeps_the_order(own_kafka, make_bridge, make_sender, ledger, topic, tier, figures):
    kafka = own_kafka().start()
    kafka.create_topics(topic, partitions=4)
    bridge = make_bridge(kafka).start(topic_map=routes(topic))
    sender = make_sender(bridge, rate=500, persistent=True)
    kills = tier.pick(2, 20)
    with sender.running():
        for _ in range(kills):
            wait_until(lambda: lag(bridge) < 500, 60, "events flow")
            kafka.kill()
            bridge.wait_up("kafka", False)
            kafka.start()
    wait_settled(bridge)
    ledger.take_kafka(kafka.read_all(topic, timeout=300))
    verdict = judge(ledger, "kafka").check(duplicates=kills * WINDOW)
    figures(kafka_killed=kills, accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["kafka"])


class Moved:
    """How much counters moved."""

    def __init__(self, bridge, *names):
        self.bridge, self.names = bridge, names
        self.before = self.read()

    def read(self):
        metrics = self.bridge.metrics()
        return {name: metrics.value(name, publisher="kafka") for name in self.names}

    def __getitem__(self, name):
        return self.read()[name] - self.before[name]


def send_some(sender, count=60):
    before = sender.accepted
    with sender.running():
        wait_until(lambda: sender.accepted >= before + count, 30, "events are accepted")


@pytest.mark.row("F11")
@pytest.mark.parametrize("kind, codes", [("retried", RETRIED), ("parked", PARKED), ("dead", DEAD), ("fatal", FATAL)])
def test_every_error_of_kafka_is_answered_as_it_has_to_be(mock_kafka, make_bridge, make_sender, collect, ledger, topic, tier, figures,
                                                          kind, codes):
    # librdkafka forgives an unknown producer once a batch, so that it takes more errors than partitions to end it
    counts = tier.pick([5 if kind == "fatal" else 2], [1, 2, 5] * 3)
    alone = {"batch.num.messages": 1} if kind == "dead" else {}  # then an error is about one record: several are tried again, smaller
    bridge = start_on_mock(make_bridge, mock_kafka, topic, **alone)
    collector = collect(mock_kafka, topic)
    sender = make_sender(bridge, rate=600, lines=8, persistent=True)
    for name, code in codes.items():
        for count in counts:
            moved = Moved(bridge, "events_dead_total")
            parked = bridge.log().count("event=topic.parked")
            mock_kafka.fail(code, count)
            send_some(sender)
            wait_settled(bridge)
            assert moved["events_dead_total"] == (count if kind == "dead" else 0), f"{name}: {moved['events_dead_total']} dead letters"
            if kind != "fatal":
                assert (bridge.log().count("event=topic.parked") > parked) == (kind == "parked"), name
            mock_kafka.order("clear", 0)
    rebuilt = bridge.log().count("event=kafka.producer_replaced")
    assert (rebuilt >= len(codes)) if kind == "fatal" else (rebuilt == 0), f"{rebuilt} producers were replaced"
    bridge.kill()
    journal = Journal(bridge.config["journal"]["path"], 2 << 30)
    collector.wait(ledger.accepted_ids() - {letter["id"] for letter in journal.dead}, what="what is not dead")
    ledger.take_kafka(collector.records)
    ledger.take_journal(journal)
    verdict = judge(ledger, "kafka").check(duplicates=WINDOW if kind in ("retried", "fatal") else 0)
    figures(**{f"{kind}_codes": len(codes), f"{kind}_accepted": verdict.accepted, f"{kind}_lost": 0,
               f"{kind}_dead": len(journal.dead), f"{kind}_rebuilt": rebuilt})


def has_one_of(records, sends, since):
    """Of what was sent since then (monotonic)."""
    ids = {sent.id for sent in sends if sent.began > since}
    return any(record.event_id in ids for record in records)


@pytest.mark.row("F12")
def test_a_producer_that_ended_is_replaced_and_keeps_the_order(mock_kafka, make_bridge, make_sender, collect, ledger, topic, dice, tier,
                                                              figures):
    bridge = start_on_mock(make_bridge, mock_kafka, topic)
    collector = collect(mock_kafka, topic)
    sender = make_sender(bridge, rate=500, persistent=True)
    ends = tier.pick(5, 200)
    with sender.running():
        for _ in range(ends):
            time.sleep(dice.uniform(0, 0.5))  # somewhere
            replaced = bridge.log().count("event=kafka.producer_replaced")
            mock_kafka.fail(45)
            wait_until(lambda: bridge.log().count("event=kafka.producer_replaced") > replaced, 20, "the producer is replaced")
            ended, sent, got = time.monotonic(), len(ledger.sends()), len(collector.records)
            wait_until(lambda: has_one_of(collector.records[got:], ledger.sends()[sent:], ended), 30, "a new one delivers", interval=0.1)
    slowest = collector.longest_silence_s
    wait_settled(bridge)
    collector.wait(ledger.accepted_ids())
    ledger.take_kafka(collector.records)
    verdict = judge(ledger, "kafka").check(duplicates=ends * WINDOW)
    figures(ends=ends, accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["kafka"], slowest_rebuild_s=round(slowest, 1))
    assert slowest <= REBUILT_WITHIN
