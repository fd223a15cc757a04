"""Watches a bridge from outside while a fault lasts: memory, descriptors, processor time, and how quickly it says that it is alive."""
import os
import threading
import time


def status(pid, name):
    """A number of /proc/PID/status; bytes when it says kB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        words = next(line for line in file if line.startswith(name + ":")).split()
    return int(words[1]) * (1024 if words[-1] == "kB" else 1)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """Its own, and those of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Samples twice a second, in a thread. The bridge may be killed and started again meanwhile."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.samples = []  # (monotonic, anonymous memory, descriptors)
        self.health = []   # (monotonic, milliseconds)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.wait(0.5):
            try:
                self._sample()
            except (OSError, StopIteration, AssertionError):
                pass  # it is being started or killed

    def _sample(self):
        pid = self.bridge.process.pid
        self.samples.append((time.monotonic(), status(pid, "RssAnon"), descriptors(pid)))
        before = time.monotonic()
        assert self.bridge.control("/healthz").status == 200
        self.health.append((before, (time.monotonic() - before) * 1000))

    def stop(self):
        self.stopped.set()
        self.thread.join()

    def most_memory(self, since=0.0):
        return max(memory for moment, memory, _ in self.samples if moment >= since)

    @property
    def slowest_health_ms(self):
        return max(took for _, took in self.health)
