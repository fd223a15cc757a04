"""A real Kafka broker in KRaft mode, from Maven Central, on free ports and in a folder of its own.

The environment variable KAFKA_PROFILE names a profile of kafka/pom.xml: kafka-3.9 runs the line before 4.
"""
import fcntl
import hashlib
import itertools
import os
import pathlib
import subprocess
import time

import confluent_kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from tests.peers.process import Process, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
POM = ROOT / "tests" / "peers" / "kafka" / "pom.xml"
PROFILE = os.environ.get("KAFKA_PROFILE", "")
CLUSTER_ID = "Y2xvc2UtYnJpZGdlLXRlc3"
# Little memory and a quick start matter to tests, not the speed of long runs.
QUICK_JVM = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def class_path(profile=PROFILE):
    """The broker's jars, fetched once; asked for again when the pom changes or a jar is gone."""
    state = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    cached = ROOT / "build" / f"{profile or 'kafka'}-{state}.classpath"
    cached.parent.mkdir(exist_ok=True)
    with open(cached.with_suffix(".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several fetch it at first, and Maven's folder is not made for that
        if not cached.exists() or not all(os.path.exists(jar) for jar in cached.read_text().split(":")):
            _fetch(profile, cached)
    return cached.read_text()


def _fetch(profile, cached):
    fresh = cached.with_suffix(f".{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:build-classpath", f"-Dmdep.outputFile={fresh}"]
    done = subprocess.run(command + ([f"-P{profile}"] if profile else []), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mvn cannot fetch Kafka:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    fresh.rename(cached)


class Record:
    """A consumed record; key and headers as text."""

    def __init__(self, message):
        self.topic = message.topic()
        self.partition = message.partition()
        self.offset = message.offset()
        self.key = message.key().decode() if message.key() is not None else None
        self.value = message.value()
        self.header_list = [(name, value.decode()) for name, value in message.headers() or []]
        self.headers = dict(self.header_list)
        self.timestamp = message.timestamp()[1]

    @property
    def event_id(self):
        """The id that Close gave: ce_id has the date too when the event is a later version."""
        return self.headers.get("ce_closeeventid")


class Reader:
    """Reads topics from their beginning, those too that do not exist yet. No consumer group: nothing to wait for."""

    def __init__(self, bootstrap, topics):
        self.topics = list(topics)
        self.positions = {}
        self.records = []
        self.refreshed = 0.0
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        })

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.consumer.close()

    def _refresh(self):
        """Takes up partitions that are new."""
        self.refreshed = time.monotonic()
        try:
            known = self.consumer.list_topics(timeout=2).topics
        except confluent_kafka.KafkaException:
            return
        wanted = [(name, partition) for name in self.topics if name in known and known[name].error is None
                  for partition in known[name].partitions]
        if any(place not in self.positions for place in wanted):
            for place in wanted:
                self.positions.setdefault(place, 0)
            self.consumer.assign([confluent_kafka.TopicPartition(name, partition, offset)
                                  for (name, partition), offset in self.positions.items()])

    def poll(self, timeout=0.1):
        """What came; also appended to `records`."""
        if time.monotonic() - self.refreshed > 0.3 and len({name for name, _ in self.positions}) < len(self.topics):
            self._refresh()
        if not self.positions:
            time.sleep(timeout)
            return []
        came = [Record(message) for message in self.consumer.consume(1000, timeout) if message.error() is None]
        for record in came:
            self.positions[record.topic, record.partition] = record.offset + 1
        self.records += came
        return came

    def _unread(self):
        """Of a failure's text: what Kafka has beyond what was read, which is the reader's fault and not the sender's."""
        try:
            places = [confluent_kafka.TopicPartition(name, partition) for name, partition in self.positions]
            ends = {place: self.consumer.get_watermark_offsets(place, timeout=5)[1] for place in places}
        except confluent_kafka.KafkaException as error:
            return f"unknown ({error})"
        return [f"{place.topic} {place.partition}: {self.positions[place.topic, place.partition]} of {end}"
                for place, end in ends.items() if self.positions[place.topic, place.partition] < end]

    def until(self, condition, timeout, what="the records"):
        """Reads until condition(records); fails when that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition(self.records):
            if time.monotonic() > deadline:
                ids = [record.event_id for record in self.records]
                raise AssertionError(f"not within {timeout} s: {what} in {self.topics[:5]}; {len(ids)} came, "
                                     f"the last: {ids[-10:]}; not read to the end: {self._unread()}")
            self.poll()
        return self.records


class Kafka:
    def __init__(self, folder, profile=PROFILE, jvm=QUICK_JVM, **properties):
        """`properties` of the broker, with _ for the dots."""
        self.jvm = jvm
        self.changes = itertools.count()  # of topics' settings
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.controller_port = free_port()
        self.profile = profile
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
            "broker.session.timeout.ms": "2000",  # a killed broker may come back after this time
            "broker.heartbeat.interval.ms": "500",
            **{name.replace("_", "."): value for name, value in properties.items()},
        }
        self.config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.process = Process("kafka", self._java("kafka.Kafka", self.config), self.folder / "kafka.log")
        self._format()

    def _java(self, main, *arguments):
        return ["java", *self.jvm, "-cp", class_path(self.profile), main, *map(str, arguments)]

    def _format(self):
        done = subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self.config),
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage cannot be formatted:\n{done.stdout}{done.stderr}")

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """On the same port and with the same data as before."""
        self.process.start()
        wait_until(self._answers, 60, lambda: f"Kafka answers:\n{self.process.log()[-3000:]}", interval=0.1)
        return self

    def _answers(self):
        self.process.check()
        try:
            return self.admin().list_topics(timeout=3).brokers
        except confluent_kafka.KafkaException:
            return None

    def stop(self):
        self.process.resume()
        self.process.stop(timeout=60)

    def kill(self):
        self.process.kill()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topics(self, *names, partitions=1, **config):
        """`config` of the topics, with _ for the dots. Returns when producers can see them."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        admin = self.admin()  # has to live until the futures are done
        futures = admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
                                       for name in names])
        for future in futures.values():
            future.result(30)
        wait_until(lambda: set(names) <= set(admin.list_topics(timeout=30).topics), 30, f"topics {names} are there")

    def set_topic_config(self, name, **config):
        """Returns when the broker acts by it, which is a moment after it shows it: but one change after the other, so when it
        shows the second it acts by the first."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self._alter_topic(name, settings)
        self._alter_topic(name, {**settings, "file.delete.delay.ms": str(60001 + next(self.changes))})

    def _alter_topic(self, name, settings):
        admin = self.admin()
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, set_config=settings)
        for future in admin.alter_configs([resource]).values():
            future.result(30)
        wait_until(lambda: self._topic_config(admin, name, settings) == settings, 30, f"the broker knows {settings} of {name}")

    def _topic_config(self, admin, name, keys):
        [future] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)]).values()
        return {key: entry.value for key, entry in future.result(30).items() if key in keys}

    def topics(self):
        return {name for name in self.admin().list_topics(timeout=30).topics if not name.startswith("__")}

    def reader(self, *topics):
        return Reader(self.bootstrap, topics)

    def read(self, *topics, count, timeout=30):
        """Reads from the beginning until `count` records came; fails when they do not come in time."""
        with self.reader(*topics) as reader:
            return list(reader.until(lambda records: len(records) >= count, timeout, f"{count} records"))

    def read_all(self, *topics, timeout=30):
        """Everything that is in the topics now."""
        with self.reader(*topics) as reader:
            known = reader.consumer.list_topics(timeout=30).topics
            places = [confluent_kafka.TopicPartition(name, partition) for name in topics if name in known
                      for partition in known[name].partitions]
            total = sum(high - low for low, high in
                        (reader.consumer.get_watermark_offsets(place, timeout=30) for place in places))
            return list(reader.until(lambda records: len(records) >= total, timeout, f"{total} records"))
