"""Consumers beside a test: they take what comes at once, so that nothing waits for them or is forgotten by a mock."""
import re
import threading
import time

from paho.mqtt import publish

from tests.faults.checker import digest
from tests.peers.process import Process, wait_until


class Tapped:
    """A message as mosquitto_sub writes it, but for its payload, of which only the digest is kept."""

    def __init__(self, line):
        time, self.topic, properties, payload = line.split("\t")
        self.time = float(time)
        self.digest = digest(bytes.fromhex(payload))
        found = re.search(r"closeeventid:(\S+)", properties)
        self.event_id = found and found[1]


class Tap:
    """Writes everything a mosquitto distributes to a file, in a process of its own: quick enough for any load. It is subscribed when
    it is made."""

    READY = "tap/ready"  # a topic that keeps a message for whoever subscribes

    def __init__(self, broker, folder):
        self.path = folder / "tap"
        self.read = 0  # bytes of the file
        self.taken = []
        self.process = Process("mosquitto_sub", ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", broker.port, "-q", "2", "-t", "#", "-F",
                                                 "%U\t%t\t%P\t%x"], self.path).start()
        publish.single(self.READY, "ready", qos=1, retain=True, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: self.READY in self.process.log(), 30, "the tap is subscribed")

    def messages(self):
        with open(self.path, encoding="utf-8") as file:
            file.seek(self.read)
            while (line := file.readline()).endswith("\n"):
                self.read += len(line.encode())
                if line.count("\t") == 3 and line.split("\t")[1] != self.READY:
                    self.taken.append(Tapped(line[:-1]))
        return self.taken

    def close(self):
        self.process.kill()


class Collector:
    """Reads topics of a Kafka in a thread until closed."""

    def __init__(self, broker, topics):
        self.reader = broker.reader(*topics)
        self.longest_silence_s = 0.0  # between two records
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        count, since = 0, None
        while not self.stopped.is_set():
            self.reader.poll(0.1)
            if len(self.reader.records) > count:
                now, count = time.monotonic(), len(self.reader.records)
                self.longest_silence_s = max(self.longest_silence_s, now - (since or now))
                since = now
        self.reader.consumer.close()

    @property
    def records(self):
        return list(self.reader.records)

    def wait(self, ids, timeout=30, what="every event"):
        """Until all these ids came."""
        ids = set(ids)
        wait_until(lambda: ids <= {record.event_id for record in self.records}, timeout,
                   lambda: f"{what}: {len(ids - {record.event_id for record in self.records})} of {len(ids)} are missing",
                   interval=0.1)

    def close(self):
        self.stopped.set()
        self.thread.join()
