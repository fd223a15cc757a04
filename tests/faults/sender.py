"""Close, as a load: signed lead events over several connections at a given rate, every one written to the ledger.

Every line of the sender has leads and a connection of its own and sends one event after the other, so that it is known which
of two events of a lead came first. What gets no 2xx is sent again before anything else of its line, as Close does (sooner).
"""
import datetime
import hmac
import random
import socket
import string
import threading
import time

from tests.e2e.bridge import KEY
from tests.faults.checker import Sent, digest

BODY = b'{"subscription_id": "whsub_load", "event": %s}'
EVENT = ('{"id": "%s", "date_created": "%s", "date_updated": "%s", "organization_id": "orga_load", "user_id": "user_load", '
         '"request_id": null, "api_key_id": null, "oauth_client_id": null, "oauth_scope": null, "object_type": "%s", '
         '"object_id": "%s", "lead_id": "%s", "action": "updated", "changed_fields": ["description"], '
         '"meta": {"request_path": "/api/v1/lead/", "request_method": "PUT"}, "data": {"id": "%s", "description": "%s"}, '
         '"previous_data": {"description": ""}}')
NOISE = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=1 << 17))


def make_event(dice, one, lead, size, object_type="lead"):
    """The bytes of an event with about `size` bytes of a text that does not compress well."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    start = dice.randrange(len(NOISE) - size)
    return (EVENT % (one, stamp, stamp, object_type, lead, lead, lead, NOISE[start:start + size])).encode()


def signed_request(body, key=KEY, account="main", timestamp=None, extra=""):
    stamp = str(int(time.time()) if timestamp is None else timestamp)
    mac = hmac.digest(bytes.fromhex(key), stamp.encode() + body, "sha256").hex()
    return (f"POST /webhooks/{account} HTTP/1.1\r\nHost: bridge\r\nContent-Type: application/json\r\n"
            f"Close-Sig-Hash: {mac}\r\nClose-Sig-Timestamp: {stamp}\r\n{extra}Content-Length: {len(body)}\r\n\r\n").encode() + body


class Answers:
    """Reads answers off a socket. Raises OSError when the connection ends before one is whole."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""

    def next(self):
        """(status, body)"""
        while b"\r\n\r\n" not in self.buffer:
            self._read()
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        size = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        while len(rest) < size:
            self.buffer = rest
            self._read()
            rest = self.buffer
        self.buffer = rest[size:]
        return int(lines[0].split(" ")[1]), rest[:size]

    def _read(self):
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionResetError("closed before the answer was whole")
        self.buffer += data


def word_of(body):
    """The status in an answer's JSON."""
    _, found, rest = body.partition(b'"status":"')
    return rest.partition(b'"')[0].decode() if found else None


class Line:
    """One connection with its leads."""

    def __init__(self, sender, number):
        self.sender = sender
        self.dice = random.Random(f"{sender.name} {number}")
        self.leads = [f"lead_{sender.name}_{number}_{lead}" for lead in range(sender.leads)]
        self.prefix = f"ev_{sender.name}_{number}_"
        self.count = 0
        self.unsettled = None  # what got no 2xx yet: (id, lead, event)
        self.answers = None
        self.address = None

    def take(self):
        if self.unsettled is None:
            one, lead = f"{self.prefix}{self.count}", self.dice.choice(self.leads)
            size = int(self.dice.triangular(*self.sender.sizes))
            self.count += 1
            self.unsettled = (one, lead, make_event(self.dice, one, lead, size, self.sender.object_type))
        return self.unsettled

    def connection(self, address):
        if self.answers is None or self.address != address:
            self.close()
            host, port = address.rsplit(":", 1)
            connection = socket.create_connection((host, int(port)), timeout=self.sender.timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.answers, self.address = Answers(connection), address
        return self.answers

    def close(self):
        if self.answers:
            self.answers.connection.close()
        self.answers = None

    def post(self, address):
        """One attempt. Returns the status, None without an answer."""
        one, lead, event = self.take()
        body = BODY % event
        status = word = None
        began = time.monotonic()
        try:
            answers = self.connection(address)
            answers.connection.sendall(signed_request(body, timestamp=int(self.sender.clock())))
            status, answer = answers.next()
            word = word_of(answer)
        except OSError:
            self.close()
        ended = time.monotonic()
        self.sender.ledger.sent(Sent(one, lead, "main", digest(body), digest(event), True, status, word, began, ended))
        self.sender.note(status, began, ended)
        if status == 200:
            self.unsettled = None
            self.sender.first_body = self.sender.first_body or body
        return status


class Sender:
    """`with sender.running():` sends until the block ends; lines whose connection breaks wait for the next block."""

    def __init__(self, bridge, ledger, dice, rate=2000, lines=16, leads=8, sizes=(100, 6000, 1000), object_type="lead",
                 name=None, timeout=15, persistent=False):
        """`rate` per second over all lines. `persistent`: a line whose connection breaks goes on by itself."""
        self.bridge, self.ledger, self.rate = bridge, ledger, rate
        self.leads, self.sizes, self.object_type, self.timeout = leads, sizes, object_type, timeout
        self.persistent = persistent
        self.name = name or f"{dice.getrandbits(40):010x}"
        self.lines = [Line(self, number) for number in range(lines)]
        self.clock = time.time  # of the timestamps
        self.accepted = 0
        self.first_body = None  # of an event that was accepted
        self.statuses = {}
        self.times = []        # (when it ended, how long it took), of what was answered 200
        self.stopped = threading.Event()
        self.threads = []

    def note(self, status, began, ended):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.accepted += 1
            self.times.append((ended, ended - began))

    def start(self):
        self.stopped.clear()
        self.threads = [threading.Thread(target=self._run, args=(line, index), daemon=True)
                        for index, line in enumerate(self.lines)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def running(self):
        return _Running(self)

    def _run(self, line, index):
        interval = len(self.lines) / self.rate
        due = time.monotonic() + interval * index / len(self.lines)
        while not self.stopped.wait(max(0.0, due - time.monotonic())):
            status = line.post(self.bridge.address)
            if status is None and not self.persistent:
                return
            due += interval if status == 200 else max(interval, 0.02)
            due = max(due, time.monotonic() - 0.5)  # after a pause it does not make up for more than that

    def redeliver(self, timeout=30):
        """What got no 2xx yet, until it does."""
        deadline = time.monotonic() + timeout
        for line in self.lines:
            while line.unsettled is not None and line.post(self.bridge.address) != 200:
                assert time.monotonic() < deadline, f"not taken within {timeout} s; answers: {self.statuses}"
                time.sleep(0.02)

    def close(self):
        for line in self.lines:
            line.close()

    def p99_ms(self, since=0.0, until=float("inf")):
        """Of what was answered 200 in that time (monotonic)."""
        times = sorted(took for ended, took in self.times if since <= ended < until)
        assert times, "nothing was answered"
        return times[int(len(times) * 0.99)] * 1000


class _Running:
    def __init__(self, sender):
        self.sender = sender

    def __enter__(self):
        self.sender.start()
        return self.sender

    def __exit__(self, *_):
        self.sender.stop()
