"""Faults by name, to be had alone, in pairs and in a long row, against one bridge with a Kafka and an MQTT broker that tells the truth."""
import signal
import time

from tests.faults.checker import DELIVERED, Out, digest, judge
from tests.faults.journal import Journal, Shim
from tests.peers.fake_mqtt import FakeMqtt
from tests.peers.process import wait_until

MAX_SIZE = 1 << 30
WINDOW = 4000  # a crash may publish so many twice, to Kafka; 500 to MQTT


class Chaos:
    """`begin(name)` and `end(name)` for each of FAULTS. What ends the bridge is followed by start()."""

    FAULTS = ("kafka silent", "mqtt cut", "mqtt refuses", "mqtt silent", "syncs fail", "disk full", "disk slow")
    ENDS = ("kill -9", "SIGTERM", "killed at start")

    def __init__(self, bridge, kafka, topic, folder, dice, has_shim=True):
        self.bridge, self.kafka, self.topic, self.dice = bridge, kafka, topic, dice
        self.mqtt = FakeMqtt()
        self.shim = None
        bridge.config["publishers"]["mqtt"] = {"url": self.mqtt.url, "keepalive": "5s"}
        if has_shim:
            (folder / "watched").mkdir()
            self.shim = Shim(folder, folder / "watched")
            bridge.env = self.shim.env
            bridge.config["journal"]["path"] = str(folder / "watched" / "journal")
        bridge.config["journal"].update({"max_size": str(MAX_SIZE), "retention": "1s"})
        self.crashes = 0
        self.calls_failed = 0  # of those on the disk

    def start(self):
        self.bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": self.topic}, "mqtt": {"topic": self.topic, "qos": 1}}])
        return self

    # ---- faults ----

    def begin(self, name):
        if name == "kafka silent":
            self.kafka.pause()
        elif name == "mqtt cut":
            self.mqtt.cut()
        elif name == "mqtt refuses":
            self.mqtt.puback = lambda publish: 0x97
        elif name == "mqtt silent":
            self.mqtt.silent = True
        elif name == "syncs fail":
            self.shim.arm("sync", "meta", error="EIO", for_ever=True)
        elif name == "disk full":
            self.shim.arm("write", "sync", "allocate", error="ENOSPC", for_ever=True)
        elif name == "disk slow":
            self.shim.delay_syncs(0.3)
        elif name == "kill -9":
            self.bridge.kill()
            self.crashes += 1
        elif name == "SIGTERM":
            self.bridge.should_run = False
            self.bridge.process.signal(signal.SIGTERM)
        elif name == "killed at start":
            self._kill_at_start()
        else:
            raise ValueError(name)

    def end(self, name):
        if name == "kafka silent":
            self.kafka.resume()
        elif name == "mqtt refuses":
            self.mqtt.puback = lambda publish: 0
        elif name == "mqtt silent":
            self.mqtt.silent = False
            self.mqtt.cut()
        elif name in ("syncs fail", "disk full"):
            self.calls_failed += self.shim.fired
            self.shim.disarm()
        elif name == "disk slow":
            self.shim.delay_syncs(0)

    def _kill_at_start(self):
        """Again and again while it recovers."""
        self.bridge.kill()
        for _ in range(4):
            self.bridge.launch()
            time.sleep(self.dice.uniform(0, 0.15))  # somewhere in the start
            self.bridge.process.kill()
        self.crashes += 1

    def calm(self):
        for name in self.FAULTS:
            if self.shim or name not in ("syncs fail", "disk full", "disk slow"):
                self.end(name)

    def revive(self):
        """Starts it when it ended, or is ending."""
        if self.bridge.should_run:
            return
        self.bridge.process.child.wait(12)
        self.bridge.start()

    # ---- the end ----

    def lag(self):
        metrics = self.bridge.metrics()
        return sum(metrics.value(name, publisher=publisher) for name in ("publisher_lag_events", "parked_events")
                   for publisher in ("kafka", "mqtt"))

    def settle(self, timeout=90):
        wait_until(lambda: self.lag() == 0, timeout,
                   lambda: f"everything is published: {self.bridge.readyz().body}\n{self.bridge.log()[-1500:]}", interval=0.1)

    def judge(self, ledger, duplicates):
        """After settle(): kills the bridge and compares."""
        self.bridge.kill()
        delivered = {publish.event_id for publish in self.mqtt.delivered}
        for publish in self.mqtt.publishes:
            if publish.event_id in delivered and (publish.code is None or publish.code < 0x80):
                ledger.out(Out(DELIVERED, "mqtt", publish.topic, publish.event_id, None, digest(publish.payload), publish.time))
        ledger.take_kafka(self.kafka.read_all(self.topic, timeout=900))
        ledger.take_journal(Journal(self.bridge.config["journal"]["path"], MAX_SIZE), "kafka", "mqtt")
        return judge(ledger, "kafka", "mqtt").check(duplicates=duplicates)

    def close(self):
        self.calm()
        self.mqtt.close()
