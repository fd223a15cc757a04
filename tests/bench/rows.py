"""What is measured. A group makes one row or several that belong together."""
import dataclasses
import json
import os
import subprocess
import threading
import time

from tests.bench import machine
from tests.bench.bench import BUILD, TOPIC, port_of, published
from tests.e2e.bridge import KEY
from tests.peers.close_events import catalog
from tests.peers.close_server import CloseServer
from tests.peers.process import wait_until

USUAL = "journal, Kafka"  # the row that others are compared with
DRAIN_WITHIN = 120  # seconds
LARGE_JOURNAL = 4 * 1024 ** 3  # bytes
MIB = 1024 * 1024
LIVE_RATE = 100  # beside a catch-up
CLOSE_RATE = (20, 1)  # requests, seconds: what Close's documents name


@dataclasses.dataclass
class Floor:
    """What the bare server did under some load."""
    events: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self):
        return self.events / self.seconds

    @property
    def cpu_us(self):
        return self.cpu_s / self.events * 1e6

    def add(self, result, cost):
        self.events += result["answered"]
        self.seconds += result["seconds"]
        self.cpu_s += cost.cpu_us * cost.events / 1e6


@dataclasses.dataclass
class Row:
    name: str
    rate: float = None  # events a second
    cpu_us: float = None  # CPU time of the bridge for each event
    latency_us: dict = None
    memory: int = None  # anonymous, bytes
    written: float = None  # bytes for each event
    floor: "Floor" = None  # the bare server under the same load, right before and behind
    load_cpu_us: float = None
    others: float = None  # share of the machine that other programs used
    threads: dict = None  # CPU microseconds of each event, by thread
    note: str = ""
    targets: list = dataclasses.field(default_factory=list)  # (sentence, is met)

    @property
    def rate_ratio(self):
        return self.rate / self.floor.rate if self.floor and self.rate else None

    @property
    def cpu_ratio(self):
        return self.cpu_us / self.floor.cpu_us if self.floor and self.cpu_us else None

    def target(self, sentence, is_met):
        self.targets.append((sentence, bool(is_met)))

    def cpu_at_most(self, limit):
        self.target(f"CPU at most {limit} x the bare server: {self.cpu_ratio:.2f}", self.cpu_ratio <= limit)

    def flat_against(self, other, limit=0.10, is_same_load=True):
        """The cost of an event does not depend on what differs between the two. Under the same load the bare server's tells how
        fast the machine was at each."""
        if other:
            more = self.cpu_ratio / other.cpu_ratio - 1 if is_same_load else self.cpu_us / other.cpu_us - 1
            what = "x the bare server" if is_same_load else "us"
            self.target(f"CPU ({what}) within {limit:.0%} of \"{other.name}\": {more:+.0%}", abs(more) <= limit)

    def rate_at_least(self, limit):
        self.target(f"events/s at least {limit} x the bare server: {self.rate_ratio:.2f}", self.rate_ratio >= limit)


def _fill(row, result, cost):
    row.cpu_us = cost.cpu_us
    row.written = cost.written_per_event
    row.others = cost.others
    row.threads = {name: spent / cost.events * 1e6 for name, spent in cost.threads.items()} if cost.events else {}
    row.latency_us = result["latency_us"]
    row.load_cpu_us = result["cpu_us"]
    if result["refused"] or result["broken"]:
        row.note += f" {result['refused']} refused, {result['broken']} connections broken"
    return row


class Run:
    """The rows so far."""

    def __init__(self, bench, spooled):
        self.bench = bench
        self.spooled = spooled  # events of the backlog
        self.rows = []
        self.sync_us = None

    def add(self, row):
        self.rows.append(row)
        self.bench.say(f"{row.name}: {row.rate or 0:,.0f} events/s")
        return row

    def row(self, name):
        """One that was measured before, or None."""
        return next((row for row in self.rows if row.name == name), None)

    def add_floor(self, row, seconds, size="2", connections=64):
        """The bare server under the same load, for `row` to be compared with."""
        row.floor = row.floor or Floor()
        row.floor.add(*self.bench.measure_floor(size, connections, seconds=seconds))

    def steady(self, name, bridge, publishers, size="2", connections=64):
        """A closed loop; an event counts when every broker has it. The bare server and the bridge take turns, since the machine
        is not always as fast; what is shown is the turn in the middle."""
        bench = self.bench
        turns = []
        bench.say(name)
        bench.until_calm(lambda: bench.load(port_of(bridge), size, connections, seconds=bench.warm_up))
        wait_settled(bridge, publishers)
        for _ in range(bench.turns):
            turns.append(Row(name))
            self.add_floor(turns[-1], bench.seconds, size, connections)
            self._turn(turns[-1], bridge, publishers, size, connections)
        turns.sort(key=lambda turn: turn.cpu_ratio)
        row = turns[len(turns) // 2]
        if len(turns) > 1:
            row.note += " turns: " + ", ".join(f"{turn.cpu_ratio:.2f} x CPU {turn.rate_ratio:.2f} x rate" for turn in turns)
        return self.add(row)

    def _turn(self, row, bridge, publishers, size, connections):
        bench = self.bench
        bench.load(port_of(bridge), size, connections, seconds=0.5)
        wait_settled(bridge, publishers)
        before = published(bridge, publishers)
        meter = bench.meter(bridge.process.pid).start()
        begin = time.monotonic()
        result = bench.load(port_of(bridge), size, connections, seconds=bench.seconds)
        accepted_s = time.monotonic() - begin
        count = result["statuses"].get("200", 0)
        wait_until(lambda: published(bridge, publishers) - before >= count, DRAIN_WITHIN, f"{count} events are published",
                   interval=0.01)
        behind_s = time.monotonic() - begin - accepted_s
        row.rate = count / (result["seconds"] + behind_s)
        row.memory = machine.anonymous_memory(bridge.process.pid)
        _fill(row, result, meter.stop(count))

    def sync_p99_us(self):
        """Of the disk, now."""
        times = machine.sync_times(self.bench.folder, min(3.0, self.bench.seconds))
        self.sync_us = {"p50": machine.percentile(times, 50) * 1e6, "p99": machine.percentile(times, 99) * 1e6}
        return self.sync_us["p99"]


def wait_settled(bridge, publishers):
    """Until everything that was accepted is published and its cursor durable."""
    wait_until(lambda: bridge.metrics().value("publisher_lag_events") == 0, DRAIN_WITHIN, "everything is published",
               interval=0.05)


# ---- groups ----

def floor(run):
    """A bare h2o server that answers 200 to the same requests. Every other row measures it again, right beside."""
    result, cost = run.bench.measure_floor(seconds=run.bench.seconds)
    row = run.add(_fill(Row("bare h2o, 2 KB, 64 connections", rate=result["rate"]), result, cost))
    row.written, row.threads = None, None


def kafka(run):
    """Journal, then Kafka."""
    bridge = run.bench.bridge(kafka=True)
    row = run.steady(USUAL, bridge, ["kafka"])
    row.cpu_at_most(3.0)
    row.rate_at_least(0.27)
    run.bench.end(bridge)


def mqtt(run):
    """Journal, then MQTT."""
    bridge = run.bench.bridge(mqtt=True)
    run.steady("journal, MQTT", bridge, ["mqtt"])
    run.bench.end(bridge)


def both(run):
    """Journal, then Kafka and MQTT."""
    bridge = run.bench.bridge(kafka=True, mqtt=True)
    run.steady("journal, Kafka and MQTT", bridge, ["kafka", "mqtt"]).cpu_at_most(4.0)
    run.bench.end(bridge)


def broker(run):
    """acknowledge: broker, Kafka."""
    bridge = run.bench.bridge(kafka=True, journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": "bench-dead"}})
    run.steady("broker mode, Kafka", bridge, ["kafka"]).cpu_at_most(2.0)
    run.bench.end(bridge)


def connections(run):
    """The cost of many connections."""
    few = None
    for count in (10, 1000):
        bridge = run.bench.bridge(kafka=True)
        row = run.steady(f"journal, Kafka, {count} connections", bridge, ["kafka"], connections=count)
        row.flat_against(few, is_same_load=False)
        few = row
        run.bench.end(bridge)


def sizes(run):
    """The cost of small and large events."""
    for size in ("0.3", "20", "200"):
        bridge = run.bench.bridge(kafka=True)
        run.steady(f"journal, Kafka, {size} KB", bridge, ["kafka"], size=size)
        run.bench.end(bridge)


def entries(run):
    """The cost of a topic map of 200 entries."""
    others = [{"object_type": pair.object_type, "action": pair.action, "kafka": {"topic": f"bench-others-{round}"}}
              for round in (1, 2) for pair in catalog() if pair.object_type != "opportunity"]
    topic_map = others[:199] + [{"object_type": "opportunity", "kafka": {"topic": TOPIC}}]
    bridge = run.bench.bridge(kafka=True, topic_map=topic_map)
    run.steady(f"journal, Kafka, {len(topic_map)} entries", bridge, ["kafka"]).flat_against(run.row(USUAL))
    run.bench.end(bridge)


def _consume(run, bridge, rate, seconds):
    """Load at a fixed rate, and a consumer. Returns what the generator and the consumer say, and the Cost."""
    bench = run.bench
    count = int(rate * seconds)
    os.sync()  # what rows before wrote is not this one's disk time
    consumer = subprocess.Popen([str(BUILD / "tests/bench/bench-consumer"), bench.kafka.bootstrap, TOPIC, str(count),
                                 str(seconds + 10)], stdout=subprocess.PIPE, text=True)
    assert consumer.stdout.readline() == "ready\n"
    meter = bench.meter(bridge.process.pid).start()
    result = bench.load(port_of(bridge), count=count, rate=rate)
    cost = meter.stop(result["answered"])
    consumed = json.loads(consumer.communicate(timeout=60)[0])
    assert consumed["consumed"] == count, f"{consumed['consumed']} of {count} events arrived"
    return result, consumed, cost


def latency(run):
    """From the webhook to its answer, and to a consumer of Kafka, at fixed rates."""
    bridge = run.bench.bridge(kafka=True)
    run.bench.load(port_of(bridge), seconds=run.bench.warm_up)
    wait_settled(bridge, ["kafka"])
    sync_p99_us = run.sync_p99_us()
    for rate in (100, 1000):
        run.bench.say(f"latency at {rate} events/s")
        run.bench.until_calm(lambda: _consume(run, bridge, rate, run.bench.warm_up * 2))
        result, consumed, cost = _consume(run, bridge, rate, run.bench.seconds * 4)
        answer = run.add(_fill(Row(f"answer at {rate} events/s", rate=result["rate"]), result, cost))
        answer.memory = machine.anonymous_memory(bridge.process.pid)
        whole = run.add(Row(f"webhook to consumer at {rate} events/s", rate=result["rate"],
                            latency_us=consumed["latency_us"], others=cost.others))
    answer_us = answer.latency_us["p99"]
    answer.target(f"p99 of the answer at most fsync's p99 + 3 ms ({sync_p99_us / 1000:.2f} + 3 ms): "
                  f"{answer_us / 1000:.2f} ms", answer_us <= sync_p99_us + 3000)
    whole_us = whole.latency_us["p99"]
    whole.target(f"p99 at most 25 ms: {whole_us / 1000:.2f} ms", whole_us <= 25000)
    run.bench.end(bridge)


class Replaying(threading.Thread):
    """One replay after the other of what the Event Log brought."""

    def __init__(self, bridge):
        super().__init__(daemon=True)
        self.bridge = bridge
        self.is_over = threading.Event()
        self.count = 0

    def run(self):
        while not self.is_over.wait(0.02):
            self.count += self.bridge.control("/control/replay?since=1h&object_type=lead", "POST").status == 202

    def stop(self):
        self.is_over.set()
        self.join()


def _fill_log(close, count):
    """Events of the last hours that no webhook brought."""
    leads = [close.maker.id("lead") for _ in range(64)]
    for number in range(count):
        date = close.ago(7200 - 3600 * number / count)
        event = close.maker.event("lead", "updated", lead_id=leads[number % len(leads)], date_created=date, date_updated=date)
        close.log.record(event)


def _compare(run, what, consumed, result, cost, usual):
    row = run.add(Row(f"webhook to consumer at {LIVE_RATE} events/s{what}", rate=result["rate"],
                      latency_us=consumed["latency_us"], others=cost.others))
    if usual:
        ratio = row.latency_us["p99"] / usual.latency_us["p99"]
        row.target(f"p99 at most 2 x without: {ratio:.2f}", ratio <= 2)
    return row


def beside(run):
    """What live events wait while a catch-up or a replay runs beside them."""
    bench = run.bench
    seconds = bench.seconds * 4
    close = CloseServer(rate_limit=CLOSE_RATE)
    try:
        _fill_log(close, int(CLOSE_RATE[0] * 50 * (seconds + 5)))
        bench.kafka.create_topics("bench-beside", partitions=4)  # else everybody waits once for it to be made
        account = {"name": "main", "api_key": close.api_key, "api_url": close.url, "signature_keys": [KEY], "sync": "manual",
                   "catch_up": {"interval": 0}}
        bridge = bench.bridge(kafka=True, accounts=[account], topic_map=[
            {"object_type": "lead", "kafka": {"topic": "bench-beside"}}, {"object_type": "*", "kafka": {"topic": TOPIC}}])
        bench.load(port_of(bridge), seconds=bench.warm_up)
        wait_settled(bridge, ["kafka"])
        bench.say("latency without")
        result, consumed, cost = _consume(run, bridge, LIVE_RATE, seconds)
        usual = _compare(run, ", nothing beside", consumed, result, cost, None)
        assert bridge.control("/control/catch-up?since=2h&until=30m", "POST").status == 202
        bench.say("latency beside a catch-up")
        result, consumed, cost = _consume(run, bridge, LIVE_RATE, seconds)
        [account] = bridge.control("/control/catch-up").json["accounts"]
        assert account["tasks"], "the catch-up was over too soon"
        _compare(run, ", beside a catch-up", consumed, result, cost, usual).note = (
            f"{account['tasks'][0]['accepted']:,} events of the Event Log meanwhile, at {CLOSE_RATE[0]} requests/s, as Close allows")
        wait_until(lambda: not bridge.control("/control/catch-up").json["accounts"][0]["tasks"], 60, "the catch-up ends")
        bench.say("latency beside replays")
        replaying = Replaying(bridge)
        replaying.start()
        result, consumed, cost = _consume(run, bridge, LIVE_RATE, seconds)
        replaying.stop()
        _compare(run, ", beside replays", consumed, result, cost, usual).note = (
            f"{bridge.metrics().value('events_replayed_total', result='delivered'):,.0f} records in {replaying.count} replays")
        bench.end(bridge)
    finally:
        close.stop()


def _spool(run, bridge):
    name = f"journal, Kafka down: {run.spooled:,} events spooled"
    row = Row(name)
    run.bench.say(name)
    run.add_floor(row, run.bench.seconds)
    meter = run.bench.meter(bridge.process.pid).start()
    result = run.bench.load(port_of(bridge), count=run.spooled)
    row.rate = result["rate"]
    _fill(row, result, meter.stop(result["answered"]))
    run.add_floor(row, run.bench.seconds)
    row.memory = machine.anonymous_memory(bridge.process.pid)
    row.rate_at_least(0.35)
    row.target(f"anonymous memory at most 128 MiB: {row.memory / MIB:.0f} MiB", row.memory <= 128 * MIB)
    run.add(row)


def _start_up(run, bridge):
    row = Row(f"start with {run.spooled:,} events spooled")
    run.bench.running.remove(bridge.process)
    bridge.terminate()
    begin = time.monotonic()
    bridge.start()
    seconds = time.monotonic() - begin
    run.bench.running.append(bridge.process)
    row.note = f"ready after {seconds:.2f} s"
    row.memory = machine.anonymous_memory(bridge.process.pid)
    row.target(f"ready within 2 s: {seconds:.2f} s", seconds <= 2)
    row.target(f"anonymous memory at most 128 MiB: {row.memory / MIB:.0f} MiB", row.memory <= 128 * MIB)
    run.add(row)


class Arriving(threading.Thread):
    """New events while old ones are drained."""

    def __init__(self, bench, bridge, rate, seconds):
        super().__init__(daemon=True)
        self.arguments = (bench, bridge, rate, seconds)
        self.result = None

    def run(self):
        bench, bridge, rate, seconds = self.arguments
        self.result = bench.load(port_of(bridge), rate=rate, seconds=seconds)


def _drain(run, bridge):
    count = min(run.spooled, 500000)
    row = Row(f"draining {count:,} events while 1,000/s arrive")
    run.bench.say(row.name)
    run.bench.kafka.start()
    wait_until(lambda: published(bridge, ["kafka"]) > 0, 60, "the first spooled event is published")
    arriving = Arriving(run.bench, bridge, 1000, 5)
    arriving.start()
    meter = run.bench.meter(bridge.process.pid).start()
    first, begin = published(bridge, ["kafka"]), time.monotonic()
    wait_until(lambda: published(bridge, ["kafka"]) >= min(first + count, run.spooled), DRAIN_WITHIN, "they are published",
               interval=0.05)
    last, end = published(bridge, ["kafka"]), time.monotonic()
    cost = meter.stop(last - first)
    row.rate = (last - first) / (end - begin)
    row.memory = machine.anonymous_memory(bridge.process.pid)
    arriving.join()
    _fill(row, arriving.result, cost)
    row.target(f"at least 50,000 events/s: {row.rate:,.0f}", row.rate >= 50000)
    run.add(row)


def backlog(run):
    """The broker is down: spooling, a start with what was spooled, draining, and the journal that is left."""
    bench = run.bench
    bridge = bench.bridge(kafka=True)
    bench.kafka.stop()
    bridge.wait_up("kafka", is_up=False)
    _spool(run, bridge)
    _start_up(run, bridge)
    _drain(run, bridge)
    wait_settled(bridge, ["kafka"])
    _grow(run, bridge)
    os.sync()  # what filled it is not the row's disk time
    kept = bridge.metrics().value("journal_bytes") / 1024 ** 3
    run.steady(f"journal of {kept:.1f} GiB, Kafka", bridge, ["kafka"]).flat_against(run.row(USUAL))
    bench.end(bridge)


def _grow(run, bridge):
    """To the size that the promise of a flat cost speaks of; a short run measures the journal that is there."""
    run.bench.say("filling the journal")
    while run.spooled >= 1000000 and bridge.metrics().value("journal_bytes") < LARGE_JOURNAL:
        run.bench.load(port_of(bridge), connections=1000, count=run.spooled // 10)
    wait_settled(bridge, ["kafka"])


def soak(run):
    """Ten minutes at dedupe_max: does memory stay? Only when it is asked for by name."""
    bench = run.bench
    marks = 2000000
    bridge = bench.bridge(kafka=True, journal={"dedupe_max": marks, "retention": "1m"})
    bench.say(f"filling {marks:,} dedupe marks")
    empty = machine.anonymous_memory(bridge.process.pid)
    bench.load(port_of(bridge), "0.3", count=marks + marks // 20)
    full = machine.anonymous_memory(bridge.process.pid)
    arriving = Arriving(bench, bridge, 2000, 600)
    arriving.start()
    seen = []
    while arriving.is_alive():
        time.sleep(5)
        seen.append(machine.anonymous_memory(bridge.process.pid))
    row = Row("ten minutes at dedupe_max", rate=arriving.result["rate"], latency_us=arriving.result["latency_us"])
    row.memory = seen[-1]
    row.note = (f"from {full / MIB:.1f} to {seen[-1] / MIB:.1f} MiB, at most {max(seen) / MIB:.1f}; "
                f"{(full - empty) / marks:.0f} bytes a mark")
    row.target(f"flat over ten minutes: {(seen[-1] - full) / MIB:+.1f} MiB", seen[-1] - full < 4 * MIB)
    run.add(row)
    bench.end(bridge)


GROUPS = {group.__name__: group
          for group in (floor, kafka, mqtt, both, broker, connections, sizes, entries, latency, beside, backlog, soak)}
BY_NAME_ONLY = {"soak"}
