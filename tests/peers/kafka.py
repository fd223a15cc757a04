"""A real Kafka broker in KRaft mode, from Maven Central, on free ports and in a folder of its own."""
import os
import pathlib
import subprocess
import time

import confluent_kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from tests.peers.process import Process, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
POM = ROOT / "tests" / "peers" / "kafka" / "pom.xml"
VERSION = os.environ.get("KAFKA_VERSION", "4.1.0")
CLUSTER_ID = "Y2xvc2UtYnJpZGdlLXRlc3"


def class_path(version=VERSION):
    """The broker's jars, fetched once."""
    cached = ROOT / "build" / f"kafka-{version}.classpath"
    if not cached.exists():
        cached.parent.mkdir(exist_ok=True)
        fresh = cached.with_suffix(f".{os.getpid()}")
        subprocess.run(["mvn", "-q", "-B", "-f", str(POM), f"-Dkafka.version={version}",
                        "dependency:build-classpath", f"-Dmdep.outputFile={fresh}"],
                       check=True, stdout=subprocess.DEVNULL)
        fresh.rename(cached)
    return cached.read_text()


class Record:
    """A consumed record; headers as text."""

    def __init__(self, message):
        self.topic = message.topic()
        self.partition = message.partition()
        self.offset = message.offset()
        self.key = message.key().decode() if message.key() is not None else None
        self.value = message.value()
        self.headers = {name: value.decode() for name, value in message.headers() or []}
        self.timestamp = message.timestamp()[1]


class Kafka:
    def __init__(self, folder, version=VERSION, **properties):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.controller_port = free_port()
        self.version = version
        self.config = self.folder / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": "9437184",
            "auto.create.topics.enable": "true",
            "log.cleaner.enable": "false",
            **properties,
        }
        self.config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.process = Process("kafka", self._java("kafka.Kafka", self.config), self.folder / "kafka.log")
        self._format()

    def _java(self, main, *arguments):
        # Little memory and a quick start matter here, not the speed of long runs.
        return ["java", "-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-cp", class_path(self.version), main, *map(str, arguments)]

    def _format(self):
        subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self.config),
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process.start()
        wait_until(self._answers, 60, lambda: f"Kafka answers:\n{self.process.log()[-3000:]}", interval=0.2)
        return self

    def _answers(self):
        self.process.check()
        try:
            return self.admin().list_topics(timeout=1).brokers
        except confluent_kafka.KafkaException:
            return None

    def stop(self):
        self.process.stop(timeout=60)

    def kill(self):
        self.process.kill()

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topic(self, name, partitions=1, **config):
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        self.admin().create_topics([topic])[name].result(30)

    def set_topic_config(self, name, **config):
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, set_config=config)
        list(self.admin().alter_configs([resource]).values())[0].result(30)

    def topics(self):
        return set(self.admin().list_topics(timeout=10).topics)

    def read(self, topics, count, timeout=30, extra=0.0):
        """Reads from the beginning until `count` records came, and `extra` seconds longer; fails when they do not come."""
        topics = [topics] if isinstance(topics, str) else list(topics)
        records = []
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": f"test-{os.getpid()}-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
            "topic.metadata.refresh.interval.ms": 500,
            "log_level": 0,
        })
        try:
            consumer.subscribe(topics)
            deadline = time.monotonic() + timeout
            while len(records) < count and time.monotonic() < deadline:
                records += self._poll(consumer)
            if len(records) < count:
                raise AssertionError(f"{len(records)} of {count} records in {topics} within {timeout} s: "
                                     f"{[r.headers.get('ce_id') for r in records][:20]}")
            end = time.monotonic() + extra
            while time.monotonic() < end:
                records += self._poll(consumer)
        finally:
            consumer.close()
        return records

    @staticmethod
    def _poll(consumer):
        return [Record(m) for m in consumer.consume(500, 0.2) if m.error() is None]
