"""The real binary with a configuration, a folder and ports of its own."""
import copy
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import urllib.parse

from tests.peers.close_simulator import Close
from tests.peers.process import Process, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "5f" * 31 + "c1"
BINARY = pathlib.Path(os.environ.get("CLOSE_BRIDGE_BINARY", ROOT / "build" / "debug" / "bridge" / "close-bridge"))
SANITIZER = re.compile(r"(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed)")


def sanitizer_options():
    support = ROOT / "tests" / "support"
    return {
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
        "LSAN_OPTIONS": f"suppressions={support / 'lsan.supp'}:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=0",
        "TSAN_OPTIONS": f"suppressions={support / 'tsan.supp'}:history_size=5",
    }


class Bridge:
    def __init__(self, folder, kafka=None, mosquitto=None, prefix=""):
        self.folder = pathlib.Path(folder)
        self.kafka = kafka
        self.mosquitto = mosquitto
        self.prefix = prefix
        self.port = free_port()
        self.control_port = free_port()
        self.process = Process("close-bridge", [BINARY, "serve", "-c", self.folder / "close-bridge.yaml"],
                               self.folder / "bridge.log", env=sanitizer_options())
        self.close = Close(f"http://127.0.0.1:{self.port}/webhooks/main", KEY)

    # ---- configuration

    def default_map(self):
        entry = {"object_type": "*"}
        if self.kafka:
            entry["kafka"] = {"topic": self.prefix + "close.{object_type}"}
        if self.mosquitto:
            entry["mqtt"] = {"topic": self.prefix + "close/{object_type}/{action}", "qos": 1}
        return [entry]

    def configure(self, topic_map=None, publishers=None, **sections):
        """Writes the configuration. JSON is YAML, so nothing is lost in quoting."""
        everything = {
            "listen": {"address": f"127.0.0.1:{self.port}", "threads": 2},
            "control": {"address": f"127.0.0.1:{self.control_port}"},
            "journal": {"path": "./state"},
            "accounts": [{"name": "main", "signature_keys": [KEY]}],
            "publishers": {},
            "topic_map": topic_map or self.default_map(),
        }
        if self.kafka:
            everything["publishers"]["kafka"] = {"bootstrap.servers": self.kafka.bootstrap}
        if self.mosquitto:
            everything["publishers"]["mqtt"] = {"url": self.mosquitto.url}
        for name, options in (publishers or {}).items():
            everything["publishers"].setdefault(name, {}).update(options)
        for section, values in copy.deepcopy(sections).items():
            if isinstance(values, dict):
                everything.setdefault(section, {}).update(values)
            else:
                everything[section] = values
        self.folder.joinpath("close-bridge.yaml").write_text(json.dumps(everything, indent=1))
        return self

    # ---- life

    def start(self, **configuration):
        if configuration or not self.folder.joinpath("close-bridge.yaml").exists():
            self.configure(**configuration)
        before = self.log().count("listener=webhook") if self.process.log_path.exists() else 0
        self.process.start()
        self.close.forget_connections()

        def is_ready():
            self.process.check()
            return self.log().count("listener=webhook") > before
        wait_until(is_ready, 30, lambda: f"the bridge listens:\n{self.log()[-3000:]}")
        return self

    def kill(self):
        self.process.kill()

    def terminate(self, timeout=10):
        return self.process.stop(timeout)

    def restart(self):
        assert self.terminate() == 0, self.log()[-3000:]
        return self.start()

    def log(self):
        return self.process.log()

    def finish(self):
        """At the end of a test: the orderly end has to work, and no sanitizer may have said anything."""
        if self.process.child and self.process.is_running:
            self.process.child.send_signal(signal.SIGCONT)
            assert self.terminate() == 0, f"exit code {self.process.child.returncode}:\n{self.log()[-6000:]}"
        if self.process.log_path.exists():
            found = SANITIZER.search(self.log())
            assert not found, self.log()[max(0, found.start() - 500):found.start() + 6000]

    # ---- requests

    def post(self, event):
        return self.close.post(event)

    def post_signed(self, body, **headers):
        return self.close.post_body(body, {**self.close.headers(body), **headers})

    def post_raw(self, data, timeout=10):
        """Sends bytes as they are; returns everything that came back until the peer closed, or one answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            answer = b""
            while True:
                try:
                    chunk = connection.recv(65536)
                except ConnectionResetError:
                    return answer
                if not chunk:
                    return answer
                answer += chunk
                head, separator, rest = answer.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.I)
                if separator and length and len(rest) == int(length.group(1)) and b"connection: close" not in head.lower():
                    return answer

    def get(self, path, headers=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.control_port, timeout=10)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ready(self):
        status, body = self.get("/readyz")
        return status, json.loads(body)

    def metrics(self):
        """All series: {'name{labels}': value}."""
        _, text = self.get("/metrics")
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
        return {name.removeprefix("closebridge_"): float(value) for name, value in lines}

    def metric(self, name, **labels):
        """Sum of the series that carry these labels; 0 when there is none."""
        total = 0.0
        for series, value in self.metrics().items():
            head, _, rest = series.partition("{")
            if head == name and all(f'{key}="{wanted}"' in rest for key, wanted in labels.items()):
                total += value
        return total

    def wait_metric(self, name, at_least, timeout=30, **labels):
        wait_until(lambda: self.metric(name, **labels) >= at_least, timeout,
                   lambda: f"{name}{labels} reaches {at_least}: {self.metric(name, **labels)}")

    def wait_published(self, publisher, count, timeout=60):
        self.wait_metric("events_published_total", count, timeout, publisher=publisher)

    def topic(self, name):
        return self.prefix + name
