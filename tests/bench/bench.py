"""The parts of a benchmark: brokers, the bridge, the bare server, the load generator, and what they cost."""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

from tests.bench import bodies, machine
from tests.e2e.bridge import KEY, ROOT, Bridge
from tests.peers.kafka import Kafka
from tests.peers.mosquitto import Mosquitto
from tests.peers.process import Process, wait_until

BUILD = ROOT / "build" / "release"
CALM = 0.03  # of a core, for the compiler of Kafka's JVM
THREADS = 2  # event loops of the bridge and of the bare server: one per core
SERVER_JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC")
TOPIC = "bench"
ONE_ENTRY = [{"object_type": "*", "kafka": {"topic": TOPIC}, "mqtt": {"topic": TOPIC + "/{object_type}"}}]


@dataclasses.dataclass
class Cost:
    """What a number of events cost a process."""
    events: int
    seconds: float
    threads: dict  # name: CPU seconds
    written: int  # bytes, or None
    others: float  # share of the machine that other programs than ours used

    @property
    def cpu_us(self):
        return sum(self.threads.values()) / self.events * 1e6 if self.events else 0.0

    @property
    def written_per_event(self):
        return None if self.written is None or not self.events else self.written / self.events


class Meter:
    """Reads what a process has used between start() and stop()."""

    def __init__(self, pid, ours):
        """`ours` are the pids that belong to the benchmark."""
        self.pid = pid
        self.ours = ours

    def _read(self):
        ours = sum(sum(machine.cpu_seconds(pid).values()) for pid in self.ours())
        children = os.times()
        return (time.monotonic(), machine.cpu_seconds(self.pid), machine.bytes_written(self.pid), machine.busy_seconds(),
                ours + sum(children[:4]))

    def start(self):
        self.before = self._read()
        return self

    def stop(self, events):
        after = self._read()
        seconds = after[0] - self.before[0]
        threads = {name: spent - self.before[1].get(name, 0) for name, spent in after[1].items()}
        written = None if after[2] is None else after[2] - self.before[2]
        others = (after[3] - self.before[3]) - (after[4] - self.before[4])
        return Cost(events, seconds, threads, written, max(0.0, others / seconds / os.cpu_count()))


class Bench:
    """`seconds` is how long a turn takes; everything lies in `folder`."""

    def __init__(self, folder, seconds):
        self.folder = pathlib.Path(folder)
        self.seconds = seconds
        self.warm_up = seconds / 2
        self.turns, self.turns_to_calm = (3, 20) if seconds >= 4 else (1, 1)
        self.files = {}
        self.running = []  # Process
        self.count = 0
        self._kafka = self._mosquitto = None

    def say(self, text):
        if sys.stderr.isatty():
            print(f"\r{text:<79}", end="\r", file=sys.stderr, flush=True)

    # ---- peers ----

    @property
    def kafka(self):
        if not self._kafka:
            self.say("starting Kafka")
            self._kafka = Kafka(self.folder / "kafka", jvm=SERVER_JVM, log_retention_bytes="2147483648").start()
            self._kafka.create_topics(TOPIC, partitions=4)
            self.running.append(self._kafka.process)
        return self._kafka

    def _compiling_s(self):
        """What Kafka's JVM has spent on compiling."""
        if not self._kafka or not self._kafka.process.is_running:
            return 0.0
        return sum(spent for name, spent in machine.cpu_seconds(self._kafka.process.pid).items() if "Compiler" in name)

    def until_calm(self, load):
        """Repeats a load until Kafka's JVM has compiled what it takes. That needs most of a core, for up to a minute after a
        new kind of load began, and is a matter of Kafka's age, not of the bridge."""
        for _ in range(self.turns_to_calm):
            compiled_s, begin = self._compiling_s(), time.monotonic()
            load()
            if self._compiling_s() - compiled_s < CALM * (time.monotonic() - begin):
                return

    @property
    def mosquitto(self):
        if not self._mosquitto:
            self._mosquitto = Mosquitto(self.folder / "mosquitto").start()
            self.running.append(self._mosquitto.process)
        return self._mosquitto

    def bridge_at_rest(self, kafka=False, mqtt=False, topic_map=ONE_ENTRY):
        """A bridge with an empty journal that is not started."""
        self.count += 1
        bridge = Bridge(self.folder / f"bridge-{self.count}", self.kafka if kafka else None,
                        self.mosquitto if mqtt else None)
        unused = {"kafka", "mqtt"} - bridge.config["publishers"].keys()
        bridge.configure(listen={"threads": THREADS}, journal={"max_size": "8GiB"},
                         topic_map=[{name: entry[name] for name in entry.keys() - unused} for entry in topic_map])
        return bridge

    def bridge(self, kafka=False, mqtt=False, topic_map=ONE_ENTRY, **sections):
        """Starts one, connected to its brokers."""
        bridge = self.bridge_at_rest(kafka, mqtt, topic_map)
        bridge.start(**sections)
        self.running.append(bridge.process)
        for publisher in bridge.config["publishers"]:
            bridge.wait_up(publisher)
        return bridge

    def end(self, bridge):
        self.running.remove(bridge.process)
        bridge.terminate()

    def clear(self):
        """After a group that failed: only the brokers stay, and they run."""
        brokers = [peer.process for peer in (self._kafka, self._mosquitto) if peer]
        for process in self.running:
            if process not in brokers:
                process.kill()
        self.running = brokers
        for peer in (self._kafka, self._mosquitto):
            if peer and not peer.process.is_running:
                peer.start()

    def close(self):
        for process in reversed(self.running):
            process.kill()

    # ---- load ----

    def bodies(self, size):
        if size not in self.files:
            self.files[size] = bodies.write(self.folder / "bodies", size)
        return self.files[size]

    def load(self, port, size="2", connections=64, **options):
        """Runs the load generator; `options` are its own. Returns what it says, with the statuses checked."""
        command = [BUILD / "tests/bench/bench-load", "--port", port, "--connections", connections]
        for name, value in options.items():
            command += [f"--{name}", value]
        done = subprocess.run([*map(str, command), *map(str, self.bodies(size))], stdout=subprocess.PIPE, check=True,
                              env={**os.environ, "CLOSE_SIGNATURE_KEY": KEY})
        result = json.loads(done.stdout)
        result["refused"] = result["answered"] - result["statuses"].get("200", 0)
        return result

    def meter(self, pid):
        return Meter(pid, lambda: [process.pid for process in self.running if process.is_running])

    def measure_floor(self, size="2", connections=64, **options):
        """The bare server under the same load. Returns (what the generator says, Cost)."""
        process = Process("bench-floor", [BUILD / "tests/bench/bench-floor", THREADS], self.folder / "floor.log")
        process.log_path.unlink(missing_ok=True)
        process.start()
        self.running.append(process)
        port = wait_until(lambda: process.log().strip(), 10, "the bare server listens")
        self.load(port, size, connections, seconds=0.5)
        meter = self.meter(process.pid).start()
        result = self.load(port, size, connections, **options)
        cost = meter.stop(result["answered"])
        self.running.remove(process)
        process.kill()
        return result, cost


def port_of(bridge):
    return bridge.address.rsplit(":", 1)[1]


def published(bridge, publishers):
    """Of the publisher that has published least."""
    metrics = bridge.metrics()
    return min(metrics.value("events_published_total", publisher=publisher) for publisher in publishers)
