"""Two faults at once, and many for long (RELIABILITY F25, F27)."""
import itertools
import random
import time

import pytest

from tests.faults.chaos import WINDOW, Chaos
from tests.faults.journal import Shim
from tests.faults.measure import Watch
from tests.faults.test_disk import is_accepting
from tests.peers.fake_mqtt import FakeMqtt
from tests.peers.process import wait_until

QUOTA_EXCEEDED = 0x97  # a code of MQTT that parks a topic
LEAKS_LESS_THAN = 24 << 20  # bytes, from the first third of the soak to the last


@pytest.fixture
def chaos(kafka, make_bridge, topic, tmp_path, dice):
    kafka.create_topics(topic, partitions=4)
    made = Chaos(make_bridge(kafka), kafka, topic, tmp_path, dice)
    yield made
    made.close()


@pytest.mark.row("F25")
def test_two_faults_at_once_are_no_worse_than_one(chaos, make_sender, ledger, dice, tier, figures):
    pairs = [*itertools.product(Chaos.FAULTS, Chaos.ENDS), *itertools.combinations(Chaos.FAULTS, 2)]
    if not tier.is_release:
        pairs = dice.sample(pairs, 10)
    chaos.start()
    sender = make_sender(chaos.bridge, rate=300, lines=8)
    for first, second in pairs:
        with sender.running():
            time.sleep(dice.uniform(0.1, 0.3))  # somewhere under load
            chaos.begin(first)
            time.sleep(dice.uniform(0.1, 0.4))
            chaos.begin(second)
            time.sleep(dice.uniform(0, 0.2))
            chaos.calm()
        chaos.revive()
        wait_until(lambda: is_accepting(chaos.bridge), 20, lambda: f"events are accepted after {first} with {second}")
        sender.redeliver()
    chaos.settle()
    verdict = chaos.judge(ledger, duplicates=len(pairs) * WINDOW)
    figures(pairs=len(pairs), accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated, crashes=chaos.crashes)


@pytest.mark.row("F25")
def test_a_damaged_meta_page_after_a_kill_with_kafka_silent_loses_nothing(chaos, make_sender, ledger, dice, figures):
    chaos.start()
    sender = make_sender(chaos.bridge, rate=300, lines=8)
    chaos.begin("kafka silent")
    with sender.running():
        wait_until(lambda: sender.accepted > 200, 20, "events are accepted")
        chaos.begin("kill -9")
    data = chaos.bridge.config["journal"]["path"] + "/data.mdb"
    with open(data, "r+b") as file:
        for page in (0, 1):
            at = page * 4096 + dice.randrange(16, 152)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << dice.randrange(8)]))
    chaos.bridge.start()
    chaos.calm()
    sender.redeliver()
    chaos.settle()
    verdict = chaos.judge(ledger, duplicates=2 * WINDOW)
    figures(accepted_before_the_damage=verdict.accepted, lost_after_it=0)


@pytest.mark.row("F25")
def test_a_record_that_a_failing_journal_did_not_park_is_not_overtaken_by_those_behind_it(make_bridge, tmp_path, request):
    """Both are refused, and one sync fails between: the first is parked only when that is tried again, after a second."""
    fake = FakeMqtt()
    request.addfinalizer(fake.close)
    (tmp_path / "watched").mkdir()
    shim = Shim(tmp_path, tmp_path / "watched")
    bridge = make_bridge(None, fake)
    bridge.env = shim.env
    bridge.start(journal={"path": str(tmp_path / "watched" / "journal")}, topic_map=[{"object_type": "*", "mqtt": {"topic": "t", "qos": 1}}])
    fake.puback = lambda publish: None
    ids = [bridge.maker.id("ev") for _ in range(2)]
    for one in ids:
        assert bridge.post_signed(bridge.event(id=one, lead_id="lead_1")).json["status"] == "accepted"
    wait_until(lambda: [publish.event_id for publish in fake.publishes] == ids, 20, "both came to the broker")
    first, second = fake.publishes
    shim.delay_syncs(0.3)  # so that the refused topic is due before the record that is missing from its list
    shim.arm("sync")
    fake.answer(first, QUOTA_EXCEEDED)
    wait_until(lambda: "event=record.not_stored" in bridge.log(), 20, "it could not be parked")
    shim.delay_syncs(0)
    fake.puback = lambda publish: 0  # from now on
    fake.answer(second, QUOTA_EXCEEDED)
    wait_until(lambda: len(fake.publishes) >= 4 and len(fake.delivered) >= 2, 20, "both are sent again, and taken")
    assert len(fake.publishes) == 4
    assert [publish.event_id for publish in fake.delivered] == ids
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="mqtt") == 0, 20, "nothing waits")


@pytest.mark.row("F27")
def test_a_soak_with_mixed_faults_loses_nothing_and_leaks_nothing(chaos, make_sender, ledger, tier, figures, request):
    dice = random.Random(f"soak {request.config.getoption('--seed')}")
    seconds, every = tier.pick((75, 5), (3600, 30))
    chaos.bridge.config["journal"]["dedupe_max"] = 100000  # marks of 48 bytes: all of them are there when memory is first looked at
    chaos.start()
    sender = make_sender(chaos.bridge, rate=tier.pick(300, 500), lines=8, persistent=True)
    watch = Watch(chaos.bridge)
    done = []
    start = time.monotonic()
    with sender.running():
        while time.monotonic() < start + seconds:
            time.sleep(every * 0.6)  # quiet
            name = dice.choice(Chaos.FAULTS)
            chaos.begin(name)
            time.sleep(every * 0.4)  # trouble
            failed = chaos.calls_failed
            chaos.end(name)
            assert chaos.calls_failed > failed or name not in ("syncs fail", "disk full"), f"{name} struck nothing"
            done.append(name)
            wait_until(lambda: is_accepting(chaos.bridge), 20, lambda: f"events are accepted after {done[-3:]}")
    watch.stop()
    sender.redeliver()
    chaos.settle()
    third = seconds / 3
    early = min(memory for moment, memory, _ in watch.samples if start + third / 2 < moment < start + third)
    late = min(memory for moment, memory, _ in watch.samples if moment > start + 2 * third)
    files = [count for _, _, count in watch.samples]
    verdict = chaos.judge(ledger, duplicates=len(done) * WINDOW)
    figures(faults=len(done), accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated,
            memory_mib={"early": early >> 20, "late": late >> 20}, descriptors={"least": min(files), "most": max(files)},
            slowest_health_ms=round(watch.slowest_health_ms))
    assert late - early < LEAKS_LESS_THAN
    assert max(files) - min(files) < 40
