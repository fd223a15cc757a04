"""kill -9 under load: nothing that was answered 2xx is missing afterwards, copies are at most the window (RELIABILITY F1)."""
import os
import time

import pytest

from tests.e2e.bridge import KEY
from tests.faults.checker import judge
from tests.faults.journal import Shim
from tests.faults.measure import cpu_seconds
from tests.peers.process import wait_until

pytestmark = pytest.mark.row("F1")

WINDOW = {"kafka": 4000, "mqtt": 500}  # DESIGN section 6: events that a crash may publish twice
STARTS_WITHIN = 2  # seconds, where it has a processor for itself


def routes(topic, *publishers):
    kinds = {"kafka": {"topic": topic}, "mqtt": {"topic": topic + "/{object_type}", "qos": 1}}
    return [{"object_type": "*", **{name: kinds[name] for name in publishers}}]


class Slowest:
    """The slowest start. Beside other work it gets a share of the processors, and so it is given that much longer."""

    def __init__(self):
        self.seconds, self.load, self.cpu_s = 0.0, 0.0, 0.0
        self.shares = 0.0  # of the time that it may take

    def take(self, seconds, load, cpu_s):
        allowed = STARTS_WITHIN * max(1, load / os.cpu_count())
        if seconds > self.seconds:
            self.seconds, self.load = seconds, load
        self.shares = max(self.shares, seconds / allowed)
        self.cpu_s = max(self.cpu_s, cpu_s)

    def check(self):
        assert self.cpu_s <= STARTS_WITHIN and self.shares <= 1, self.figures()

    def figures(self):
        return {"seconds": round(self.seconds, 2), "at a load average of": round(self.load, 1), "of a processor at most": round(self.cpu_s, 2)}


def kill_rounds(bridge, sender, dice, kills):
    """Returns (when each start was, by the clock of the brokers; the slowest)."""
    starts, slowest = [], Slowest()
    for _ in range(kills):
        with sender.running():
            time.sleep(dice.uniform(0.05, 0.5))  # the length of the run
            bridge.kill()
        starts.append(time.time())
        before = time.monotonic()
        bridge.start()
        slowest.take(time.monotonic() - before, os.getloadavg()[0], cpu_seconds(bridge.process.pid))
        sender.redeliver()
    return starts, slowest


def everything(bridge, ledger, kafka, topic, tap=None, timeout=120):
    """Waits until all that was accepted is published, and takes it into the ledger."""
    publishers = ["kafka"] + (["mqtt"] if tap else [])
    wait_until(lambda: all(bridge.metrics().value("publisher_lag_events", publisher=name) == 0 for name in publishers),
               timeout, lambda: f"everything is published: {bridge.readyz().body}", interval=0.1)
    ledger.take_kafka(kafka.read_all(topic, timeout=timeout))
    if tap:
        accepted = ledger.accepted_ids()

        def missing():
            return sorted(accepted - {message.event_id for message in tap.messages()})
        wait_until(lambda: not missing(), 30, lambda: f"mosquitto passed on all but {missing()}", interval=0.5)
        ledger.take_mqtt(tap.messages())
    return judge(ledger, *publishers)


def test_nothing_is_lost_when_killed_with_the_brokers_up(kafka, mosquitto, make_bridge, make_sender, make_tap, ledger, topic, dice,
                                                       tier, figures):
    kills = tier.pick(30, 1500)
    kafka.create_topics(topic, partitions=4, message_timestamp_type="LogAppendTime")
    tap = make_tap(mosquitto.start())
    bridge = make_bridge(kafka, mosquitto).start(topic_map=routes(topic, "kafka", "mqtt"), journal={"max_size": "2GiB"})
    sender = make_sender(bridge, rate=2000)
    starts, slowest = kill_rounds(bridge, sender, dice, kills)
    verdict = everything(bridge, ledger, kafka, topic, tap).check(duplicates=kills * WINDOW["kafka"])
    most = verdict.most_duplicates_between(starts)
    figures(kills=kills, accepted=verdict.accepted, lost=0, duplicates=sum(verdict.duplicated.values()),
            most_duplicates_of_one_kill=most, slowest_start=slowest.figures())
    assert all(most[publisher] <= WINDOW[publisher] for publisher in most), most
    slowest.check()
    assert bridge.metrics().value("events_dead_total") == 0


def test_nothing_is_lost_when_killed_with_kafka_silent_and_nothing_comes_twice_without_a_crash(
        own_kafka, make_bridge, make_sender, ledger, topic, dice, tier, figures):
    kills = tier.pick(20, 500)
    kafka = own_kafka().start()
    kafka.create_topics(topic, partitions=4, message_timestamp_type="LogAppendTime")
    bridge = make_bridge(kafka).start(topic_map=routes(topic, "kafka"), journal={"max_size": "2GiB"})
    sender = make_sender(bridge, rate=2000)
    bridge.wait_up("kafka")
    with sender.running():
        time.sleep(2)
    everything(bridge, ledger, kafka, topic).check(duplicates=0)
    kafka.pause()  # what is submitted hangs in the connection
    starts, slowest = kill_rounds(bridge, sender, dice, kills)
    kafka.resume()
    verdict = everything(bridge, ledger.excerpt(), kafka, topic).check(duplicates=kills * WINDOW["kafka"])
    most = verdict.most_duplicates_between(starts)
    figures(kills=kills, accepted=verdict.accepted, lost=0, duplicates_without_a_crash=0,
            duplicates_with_silent_kafka=verdict.duplicated["kafka"],
            most_duplicates_of_one_kill=most, slowest_start=slowest.figures())
    assert most["kafka"] <= WINDOW["kafka"]
    slowest.check()


def of_the_event_log(close, count):
    """So many events of the last hours, one a minute, which only the log has."""
    events = []
    for number in range(count):
        date = close.ago(60 * (count + 60 - number))
        events.append(close.maker.event("lead", "updated", date_created=date, date_updated=date))
        close.log.record(events[-1])
    return {event["id"] for event in events}


def test_a_kill_before_what_was_read_from_the_event_log_is_durable_skips_none_of_it(make_bridge, kafka, close_server, topic, tmp_path,
                                                                                 figures):
    kafka.create_topics(topic)
    journal = tmp_path / "journal"
    journal.mkdir(mode=0o700)
    shim = Shim(tmp_path, journal)
    bridge = make_bridge(kafka)
    bridge.env = shim.env
    account = {"name": "main", "api_key": close_server.api_key, "api_url": close_server.url, "signature_keys": [KEY], "sync": "manual",
               "catch_up": {"interval": "1h", "settle": "0s"}}
    bridge.start(journal={"path": str(journal)}, accounts=[account], topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    wait_until(lambda: bridge.control("/control/catch-up").json["accounts"][0]["point"], 30, "the first run was made")
    bridge.kill()

    close_server.behaviour.clock_skew += 12 * 3600
    events = of_the_event_log(close_server, 300)
    shim.delay_syncs(1)  # twice in a commit: a kill within them leaves nothing of it; beside the journal nothing is slow
    pages = []
    close_server.on_request = lambda call: pages.append(call) if call.group == "event" and call.phase == "answered" else None
    bridge.launch()
    wait_until(lambda: pages, 60, "it reads the log")
    begun = shim.count("sync")
    wait_until(lambda: shim.count("sync") > begun, 30, "what was read is being committed")
    time.sleep(0.5)  # into the sync
    bridge.kill()
    close_server.on_request = None
    shim.delay_syncs(0)
    bridge.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: events <= {record.event_id for record in records}, 60)
        came = [record.event_id for record in reader.records]
    assert len(came) == len(set(came)) == len(events)
    figures(killed_while_the_event_log_is_stored=1, read=len(events), skipped=0)
