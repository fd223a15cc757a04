"""Runs the real binary in a folder of its own and talks to it as Close and as operators do."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import time

from tests.peers.close_simulator import Close
from tests.peers.process import Process, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("CLOSE_BRIDGE_BINARY", ROOT / "build/debug/bridge/close-bridge")).resolve()
KEY = "8c1f6a3e5d2b4790a1c3e5f70918273645546372819fa0b1c2d3e4f5a6b7c8d9"
STOPS_WITHIN = 10  # seconds, DESIGN: a stop ends in this time
REPORTS = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed")
SUPPORT = ROOT / "tests" / "support"
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:exitcode=99",
    "LSAN_OPTIONS": f"suppressions={SUPPORT / 'lsan.supp'}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={SUPPORT / 'tsan.supp'}:exitcode=99:history_size=5",
}


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Metrics:
    """A page in Prometheus' text format."""

    line = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
    label = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text = text
        self.series = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = self.line.match(line)
            assert match, f"not a line of Prometheus' format: {line!r}"
            self.series.append((match[1], dict(self.label.findall(match[2] or "")), float(match[3])))

    @property
    def names(self):
        return {name for name, _, _ in self.series}

    def value(self, name, **labels):
        """The sum of the series that have these labels; 0 without any."""
        return sum(value for found, its, value in self.series
                   if found == "closebridge_" + name and labels.items() <= its.items())


class Bridge:
    """One daemon. start() may come again after kill() or terminate(): the folder, and so the journal, stays."""

    def __init__(self, folder, kafka=None, mosquitto=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_path = self.folder / "close-bridge.yaml"
        self.log_path = self.folder / "close-bridge.log"
        self.config = {
            "listen": {"address": "127.0.0.1:0", "threads": 2},
            "control": {"address": "127.0.0.1:0"},
            "journal": {"path": str(self.folder / "journal"), "max_size": "256MiB"},
            "accounts": [{"name": "main", "signature_keys": [KEY], "sync": "manual"}],
            "publishers": {},
        }
        if kafka:
            self.config["publishers"]["kafka"] = {"bootstrap.servers": kafka.bootstrap,
                                                  "reconnect.backoff.max.ms": 500}
        if mosquitto:
            self.config["publishers"]["mqtt"] = {"url": mosquitto.url, "keepalive": "5s"}
        self.binary = BINARY
        self.prefix = []  # a command that becomes the daemon, such as prlimit
        self.may_abort = False
        self.env = {}  # added to the environment of the daemon
        self.process = None
        self.should_run = False
        self.address = None
        self.control_address = None
        self.close = None

    # ---- the process ----

    def configure(self, **sections):
        """Lays `sections` over the configuration; of a section that is a map only the members given change."""
        for name, value in sections.items():
            if isinstance(value, dict) and isinstance(self.config.get(name), dict):
                self.config[name] = {**self.config[name], **value}
            else:
                self.config[name] = value
        self.config_path.write_text(json.dumps(self.config, indent=2))  # YAML reads JSON

    def launch(self):
        """Starts the process and does not wait for it."""
        self.process = Process("close-bridge", [*self.prefix, self.binary, "serve", "-c", self.config_path], self.log_path,
                               env={**SANITIZERS, **self.env}, cwd=self.folder)
        self.log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.process.start()

    def start(self, **sections):
        if sections or not self.config_path.exists():
            self.configure(**sections)
        self.launch()
        return self.attach()

    def attach(self):
        """Waits until a process that was launched listens."""
        self.control_address = self._wait_for_listener("control")
        self.address = self._wait_for_listener("webhook")
        self.close = Close(f"http://{self.address}/webhooks/main", KEY)
        self.should_run = True
        return self

    def _wait_for_listener(self, name):
        def ready():
            found = re.search(rf"event=listener\.ready listener={name} address=(\S+)", self.log_since_start())
            if not found:
                self.process.check()
            return found
        return wait_until(ready, 30, lambda: f"the {name} listener is ready:\n{self.log()[-4000:]}")[1]

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_since_start(self):
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def kill(self):
        """SIGKILL: only the journal remembers."""
        self.should_run = False
        self.process.kill()

    def terminate(self):
        """SIGTERM; returns the exit code, and fails when it takes longer than promised."""
        self.should_run = False
        return self.process.stop(timeout=STOPS_WITHIN)

    def restart(self):
        assert self.terminate() == 0
        return self.start()

    def finish(self):
        """At the end of a test: stops it, and fails on an exit or a sanitizer's report that nobody asked for."""
        if self.process and self.should_run:
            self.process.check()
            assert self.terminate() == 0, f"exit code {self.process.child.returncode}"
        elif self.process:
            self.process.kill()
        report = REPORTS.search(self.log())
        assert not report or self.may_abort, f"a sanitizer's report in {self.log_path}: {report[0]}"

    def run(self, *arguments, env=None, timeout=30):
        """A command of the binary. Returns the CompletedProcess."""
        return subprocess.run([self.binary, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout, env={**os.environ, **SANITIZERS, **(env or {})})

    # ---- as Close ----

    @property
    def maker(self):
        return self.close.maker

    def event(self, object_type="lead", action="created", **changes):
        return self.maker.event(object_type, action, **changes)

    def body(self, event):
        return event if isinstance(event, bytes) else self.maker.body(event)

    def post_signed(self, event, account="main", key=None, timestamp=None, headers=None, without=(), timeout=15):
        """Posts an event, or a body's bytes, signed as Close does; headers can be added and left out."""
        body = self.body(event)
        sent = {**self.close.headers(body, timestamp=timestamp, key=key), **(headers or {})}
        sent = {name: value for name, value in sent.items() if name.lower() not in {n.lower() for n in without}}
        return self.request("POST", f"/webhooks/{account}", body, sent, timeout=timeout)

    def request(self, method, path, body=None, headers=None, address=None, timeout=15):
        """Over a connection of its own."""
        connection = http.client.HTTPConnection(address or self.address, timeout=timeout)
        try:
            connection.connect()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be answered before all of it was sent
                connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def raw(self, data, timeout=10):
        """Sends bytes to the webhook listener; returns every byte that comes until it closes or falls silent."""
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=timeout) as connection:
            with contextlib.suppress(OSError):  # it may be answered and closed before all of it was sent
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except ConnectionResetError:
                pass
        return received

    # ---- as an operator ----

    def control(self, path, method="GET", body=None, headers=None, timeout=15):
        return self.request(method, path, body, headers, address=self.control_address, timeout=timeout)

    def reload(self, **sections):
        """Lays `sections` over the configuration and has it read again."""
        self.configure(**sections)
        return self.control("/control/reload", method="POST", timeout=60)

    def metrics(self):
        answer = self.control("/metrics")
        assert answer.status == 200, answer
        return Metrics(answer.body.decode())

    def readyz(self):
        return self.control("/readyz")

    def wait_published(self, publisher, count, timeout=30):
        wait_until(lambda: self.metrics().value("events_published_total", publisher=publisher) >= count, timeout,
                   lambda: f"{count} published to {publisher}: {self.readyz().body}")

    def wait_up(self, publisher, is_up=True, timeout=30):
        wait_until(lambda: self.metrics().value("publisher_up", publisher=publisher) == is_up, timeout,
                   lambda: f"publisher_up of {publisher} is {int(is_up)}: {self.readyz().body}")


class Load:
    """Posts lead events from several threads until stopped, as Close would, and keeps what was answered 200."""

    def __init__(self, bridge, threads=4, object_type="lead", leads=20):
        import threading
        self.bridge = bridge
        self.object_type = object_type
        self.leads = [bridge.maker.id("lead", 43) for _ in range(leads)]
        self.accepted = []      # event ids that were answered 200
        self.unanswered = []    # events whose connection broke
        self.refused = []       # (status, event)
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number):
        close = self.bridge.close
        count = 0
        while not self.stopped.is_set():
            count += 1
            event = close.maker.event(self.object_type, lead_id=self.leads[(count * 7 + number) % len(self.leads)])
            try:
                answer = close.post(event)
            except (OSError, http.client.HTTPException):
                self.unanswered.append(event)
                return
            if answer.status == 200:
                self.accepted.append(event["id"])
            else:
                self.refused.append((answer.status, event))

    def wait(self, count, timeout=30):
        wait_until(lambda: len(self.accepted) >= count, timeout,
                   lambda: f"{count} events accepted; {len(self.accepted)} were, refused: {self.refused[:3]}")
