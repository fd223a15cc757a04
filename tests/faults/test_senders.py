"""Senders that break off, drip, flood and smuggle, beside honest ones (RELIABILITY F17-F20)."""
import contextlib
import itertools
import resource
import socket
import ssl
import struct
import threading
import time

import pytest

from tests.e2e.bridge import ROOT
from tests.faults.checker import Ledger, Sent, digest, judge
from tests.faults.journal import Shim
from tests.faults.measure import Watch, cpu_seconds, descriptors
from tests.faults.sender import BODY, Answers, make_event, signed_request
from tests.faults.test_disk import Nowhere
from tests.peers.certificates import Authority
from tests.peers.process import wait_until

REAPED_WITHIN = 45       # seconds: idle connections go after 30, unread answers after 15
HONEST_P99_MS = 250
GROWS_LESS_THAN = 64 << 20


@pytest.fixture
def asan(monkeypatch):
    """The daemon of the test is built with AddressSanitizer."""
    monkeypatch.setattr("tests.e2e.bridge.BINARY", ROOT / "build/asan/bridge/close-bridge")


def routes(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


def connect(bridge, source=None, context=None):
    host, port = bridge.address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20, source_address=(source, 0) if source else None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(connection, server_hostname="127.0.0.1") if context else connection


def reset(connection):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection):
    received = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


class Events:
    """Small events with all that a ledger needs to know of them."""

    def __init__(self, dice, ledger, name):
        self.dice, self.ledger, self.name, self.count = dice, ledger, name, itertools.count()

    def next(self):
        """(id, event, request)"""
        one = f"ev_{self.name}_{next(self.count)}"
        event = make_event(self.dice, one, "lead_" + one, 20)
        return one, event, signed_request(BODY % event)

    def sent(self, one, event, status, word=None):
        now = time.monotonic()
        self.ledger.sent(Sent(one, "lead_" + one, "main", digest(BODY % event), digest(event), True, status, word, now, now))


def settle_and_judge(bridge, kafka, topic, ledger, duplicates=0):
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") == 0, 60, "everything is published")
    ledger.take_kafka(kafka.read_all(topic, timeout=300))
    return judge(ledger, "kafka").check(duplicates=duplicates)


def tls_settings(folder):
    """(a client's context, the setting of the listener)"""
    authority = Authority(folder / "authority")
    certificate, key = authority.sign("bridge")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    return context, {"certificate": str(certificate), "key": str(key)}


# ---- F17 ----

@pytest.mark.row("F17")
@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_a_request_that_breaks_off_anywhere_is_taken_whole_or_not_at_all(kafka, make_bridge, ledger, topic, dice, tier, tmp_path, asan,
                                                                        figures, over):
    context, tls = tls_settings(tmp_path) if over == "tls" else (None, None)
    bridge = make_bridge(kafka)
    bridge.configure(topic_map=routes(topic))
    bridge.start(listen={"tls": tls} if tls else {})
    events = Events(dice, ledger, over)
    broken = []
    size = len(events.next()[2])
    step = 1 if over == "tcp" or tier.is_release else 9
    for cut in range(0, size + 1, step):
        for close in (socket.socket.close, reset):
            one, event, request = events.next()
            connection = connect(bridge, context=context)
            connection.sendall(request[:cut])
            close(connection)
            events.sent(one, event, None)
            broken.append((one, event, request))
    for one, event, request in broken:  # Close delivers again what it got no answer to
        with contextlib.closing(connect(bridge, context=context)) as connection:
            connection.sendall(request)
            status, body = Answers(connection).next()
        assert status == 200, body
        events.sent(one, event, status, "accepted")
    assert bridge.metrics().value("webhooks_total", result="accepted") == len(broken), "each is stored once"
    verdict = settle_and_judge(bridge, kafka, topic, ledger)
    figures(**{f"cut_off_over_{over}": len(broken), "published": verdict.accepted})


@pytest.mark.row("F17")
def test_senders_that_leave_while_the_disk_is_slow_do_no_harm(make_bridge, ledger, dice, tmp_path, asan, figures):
    bridge = make_bridge(Nowhere)
    (tmp_path / "watched").mkdir()
    shim = Shim(tmp_path, tmp_path / "watched")
    bridge.env = {**shim.env, "ASAN_OPTIONS": "verify_asan_link_order=0:detect_stack_use_after_return=1:exitcode=99"}
    bridge.start(journal={"path": str(tmp_path / "watched" / "journal")}, topic_map=routes("t"))
    events = Events(dice, ledger, "gone")
    left = 0
    for seconds in (0.3, 0.6):
        shim.delay_syncs(seconds)
        for number in range(60):
            connection = connect(bridge)
            connection.sendall(events.next()[2])
            reset(connection) if number % 2 else connection.close()
            left += 1
    shim.delay_syncs(0)
    # An answer that comes after them shows that the loop went on, and all of them were stored.
    wait_until(lambda: bridge.post_signed(bridge.event()).status == 200, 30, "others are served")
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") >= left, 10, "what was whole is stored")
    figures(left_while_pending=left)


@pytest.mark.row("F17")
def test_a_hundred_requests_in_one_piece_are_answered_in_order_and_those_who_never_read_are_shut_out(kafka, make_bridge, ledger, topic,
                                                                                                  dice, asan, figures):
    bridge = make_bridge(kafka).start(topic_map=routes(topic))
    events = Events(dice, ledger, "pipelined")
    batch = [events.next() for _ in range(100)]
    with contextlib.closing(connect(bridge)) as connection:
        connection.sendall(b"".join(request for _, _, request in batch))
        answers = Answers(connection)
        for one, event, _ in batch:
            status, body = answers.next()
            events.sent(one, event, status, "accepted")
            assert (status, body) == (200, b'{"status":"accepted"}')
    # Requests that are refused cost the sender nothing; whoever never reads the answers must not be answered for ever.
    deaf = []
    for _ in range(30):
        connection = connect(bridge)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        deaf.append(connection)
    refused = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n" * 50
    gone, since = set(), time.monotonic()
    while len(gone) < len(deaf):
        assert time.monotonic() - since < REAPED_WITHIN, f"{len(deaf) - len(gone)} are still served"
        for number, connection in enumerate(deaf):
            if number not in gone:
                try:
                    connection.send(refused)
                except BlockingIOError:
                    pass
                except OSError:
                    gone.add(number)
        assert bridge.request("GET", "/nowhere").status == 404
        time.sleep(0.05)  # between two rounds of the flood
    figures(deaf_senders_shut_out=len(gone), after_s=round(time.monotonic() - since, 1))
    for connection in deaf:
        connection.close()
    settle_and_judge(bridge, kafka, topic, ledger)


# ---- F18 ----

class Flood:
    """Connections that do no good, from addresses of their own, kept up until the end."""

    def __init__(self, bridge, kind, count, source):
        self.bridge, self.kind, self.source = bridge, kind, source
        self.stopped = threading.Event()
        self.connections = []
        self.opened = 0
        self.target = count
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        for connection in self.connections:
            connection.close()

    def _run(self):
        while not self.stopped.is_set():
            self._fill()
            self._feed()
            self.stopped.wait(0.2)

    def _fill(self):
        while len(self.connections) < self.target and not self.stopped.is_set():
            try:
                connection = connect(self.bridge, self.source)
                connection.setblocking(False)
                self._begin(connection)
            except OSError:
                return
            self.connections.append(connection)
            self.opened += 1

    def _begin(self, connection):
        head = b"POST /webhooks/main HTTP/1.1\r\nHost: h\r\n"
        if self.kind == "drip":
            connection.send(head + b"Content-Length: 100000\r\n\r\n{")
        elif self.kind == "chunks":
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        elif self.kind == "header":
            connection.send(head)

    def _feed(self):
        feed = {"drip": b"x", "chunks": b"1;" + b"e" * 60000 + b"\r\nx\r\n", "header": b"X-A: " + b"h" * 60000, "idle": b""}[self.kind]
        kept = []
        for connection in self.connections:
            try:
                if feed:
                    connection.send(feed)
                elif not _is_open(connection):
                    raise OSError
                kept.append(connection)
            except BlockingIOError:
                kept.append(connection)
            except OSError:
                connection.close()
        self.connections = kept


def _is_open(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 10000, f"the test opens 4,300 connections, and may have {hard} descriptors only: ulimit -Hn 20000"
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.row("F18")
def test_honest_senders_are_served_in_time_beside_idle_dripping_and_flooding_ones(kafka, make_bridge, make_sender, ledger, topic, tier,
                                                                                 many_descriptors, tmp_path, figures):
    """Beside it runs a second bridge that nobody attacks: how quick the machine is shows there."""
    bridge = make_bridge(kafka).start(topic_map=routes(topic))
    other = make_bridge(kafka, name="other").start(topic_map=routes(topic + "-other"))
    bridge.wait_up("kafka")
    sender, control = make_sender(bridge, rate=200, lines=100, persistent=True), make_sender(other, rate=50, lines=25, persistent=True)
    control.ledger = Ledger(tmp_path / "other.jsonl")
    watch = Watch(bridge)
    seconds = tier.pick(20, 600)
    with sender.running(), control.running():
        wait_until(lambda: sender.accepted > 200, 20, "honest events flow")
        quiet, memory, cpu, start = sender.p99_ms(), watch.most_memory(), cpu_seconds(bridge.process.pid), time.monotonic()
        with Flood(bridge, "idle", 500, "127.0.0.2") as idle, Flood(bridge, "drip", 500, "127.0.0.3") as drip, \
                Flood(bridge, "chunks", 10, "127.0.0.4") as chunks, Flood(bridge, "header", 10, "127.0.0.5") as header:
            time.sleep(seconds)  # the length of the measurement
            used = (cpu_seconds(bridge.process.pid) - cpu) / (time.monotonic() - start)
            p99, p99_beside = (one.p99_ms(since=start + 1) for one in (sender, control))
            grown = watch.most_memory(since=start) - memory
            opened = idle.opened + drip.opened + chunks.opened + header.opened
            assert idle.opened >= 500 and drip.opened >= 500
    watch.stop()
    assert set(sender.statuses) == {200}, f"honest senders were not served: {sender.statuses}"
    verdict = settle_and_judge(bridge, kafka, topic, ledger)
    figures(hostile_connections=opened, honest_accepted=verdict.accepted, honest_lost=0,
            p99_ms={"before": round(quiet, 1), "in the flood": round(p99, 1), "of a bridge without one": round(p99_beside, 1)},
            processors_used=round(used, 2), memory_grown_mib=round(grown / (1 << 20), 1),
            slowest_health_ms=round(watch.slowest_health_ms))
    assert p99 < max(HONEST_P99_MS, 2 * p99_beside)
    assert used < 1
    assert grown < GROWS_LESS_THAN


@pytest.mark.row("F18")
def test_more_connections_than_the_limit_wait_and_those_there_are_served(kafka, make_bridge, make_sender, ledger, topic, many_descriptors,
                                                                       figures):
    bridge = make_bridge(kafka).start(listen={"max_connections_per_address": 0}, topic_map=routes(topic))
    sender = make_sender(bridge, rate=100, lines=4)
    with sender.running():
        wait_until(lambda: sender.accepted > 20, 20, "honest events flow")
        with Flood(bridge, "idle", 4300, "127.0.0.2") as flood:
            wait_until(lambda: flood.opened >= 4300, 30, lambda: f"4300 connections: {flood.opened}")
            cpu, start, accepted = cpu_seconds(bridge.process.pid), time.monotonic(), sender.accepted
            wait_until(lambda: sender.accepted > accepted + 200, 20, "those that are connected are served")
            used = (cpu_seconds(bridge.process.pid) - cpu) / (time.monotonic() - start)
            most = descriptors(bridge.process.pid)
    assert most < 4096 + 100, "no more connections than the limit, and what the process needs itself"
    assert used < 0.8, "a listener that waits does not spin"
    wait_until(lambda: bridge.post_signed(bridge.event()).status == 200, 20, "new connections are taken when the flood is over")
    figures(connections=flood.opened, descriptors=most, processors_used=round(used, 2))


# ---- F19 ----

@pytest.mark.row("F19")
def test_http2_is_not_spoken(kafka, make_bridge, ledger, topic, tmp_path, asan, figures):
    context, tls = tls_settings(tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    bridge = make_bridge(kafka).start(topic_map=routes(topic), listen={"tls": tls})
    with contextlib.closing(connect(bridge, context=context)) as connection:
        assert connection.selected_alpn_protocol() != "h2"
    assert bridge.terminate() == 0
    bridge.config["listen"].pop("tls")
    bridge.configure()
    bridge.start()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    headers = b"\x00\x00\x05\x01\x05" + b"\x00\x00\x00\x01" + b"\x82\x86\x84\x41\x00" + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01" + bytes(4)
    before, start = cpu_seconds(bridge.process.pid), time.monotonic()
    shut = 0
    for _ in range(200):  # the rapid reset, as far as it comes
        with contextlib.closing(connect(bridge)) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(preface + headers * 500)
            answer = read_to_end(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer[:100]
        shut += 1
    used = (cpu_seconds(bridge.process.pid) - before) / (time.monotonic() - start)
    upgrade = signed_request(b"{}", extra="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
    with contextlib.closing(connect(bridge)) as connection:
        connection.sendall(upgrade)
        status, body = Answers(connection).next()
    assert status in (200, 400), "answered as HTTP/1.1, or refused; never 101"
    assert bridge.metrics().value("webhooks_total", result="accepted") == 0
    figures(prefaces_refused=shut, processors_used=round(used, 2))


# ---- F20 ----

def framing_cases(body):
    """(what, head lines after the request line, the bytes that follow, what may be answered)

    400: refused. 200: accepted. None: either, because the body is signed as it was read, but nothing behind it is read.
    """
    size = f"Content-Length: {len(body)}"
    chunked = "Transfer-Encoding: chunked"
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    whole = chunk + b"0\r\n\r\n"
    host = "Host: bridge"
    refused = {
        "CL.TE": [host, size, chunked], "TE.CL": [host, chunked, size], "two lengths": [host, size, "Content-Length: 0"],
        "the same length twice": [host, size, size], "a list of lengths": [host, f"{size}, {len(body)}"],
        "a length with +": [host, f"Content-Length: +{len(body)}"], "a negative length": [host, "Content-Length: -1"],
        "a hexadecimal length": [host, f"Content-Length: 0x{len(body):x}"], "no length given": [host, "Content-Length:"],
        "a length with a decimal point": [host, f"Content-Length: {len(body)}.0"],
        "a length in letters": [host, "Content-Length: ten"], "a length beyond 64 bits": [host, "Content-Length: 18446744073709551617"],
        "a length with text": [host, f"Content-Length: {len(body)}x"], "a length with a space inside": [host, "Content-Length: 1 0"],
        "a length in underscores": [host, f"Content-Length: {len(body)}_0"],
        "a length with a tab before the colon": [host, f"Content-Length\t: {len(body)}"],
        "a length with a space before the colon": [host, f"Content-Length : {len(body)}"],
        "chunked twice": [host, chunked, chunked], "chunked in a list twice": [host, "Transfer-Encoding: chunked, chunked"],
        "gzip, chunked": [host, "Transfer-Encoding: gzip, chunked"], "chunked, gzip": [host, "Transfer-Encoding: chunked, gzip"],
        "identity": [host, "Transfer-Encoding: identity"], "identity then chunked": [host, "Transfer-Encoding: identity", chunked],
        "xchunked": [host, "Transfer-Encoding: xchunked"], "chunkedx": [host, "Transfer-Encoding: chunkedx"],
        "chunked in quotes": [host, 'Transfer-Encoding: "chunked"'], "chunked with a parameter": [host, "Transfer-Encoding: chunked;q=1"],
        "an empty coding": [host, "Transfer-Encoding:"], "a comma": [host, "Transfer-Encoding: ,chunked"],
        "chunked after a vertical tab": [host, "Transfer-Encoding: \x0bchunked"],
        "a space before the colon of the coding": [host, "Transfer-Encoding : chunked"],
        "a folded coding": [host, "Transfer-Encoding:", " chunked"], "a folded length": [host, "Content-Length:", f" {len(body)}"],
        "a folded header": [host, size, "X-A: b", " c"], "a folded first header": [" X-A: b", host, size],
        "no host": [size], "two hosts": [host, "Host: other", size], "the same host twice": [host, host, size],
        "a host with a space": ["Host: bri dge", size], "a host with a slash": ["Host: bridge/x", size],
        "a host with an at": ["Host: user@bridge", size],
        "a name with a space": [host, "X A: b", size], "a name with a NUL": [host, "X\0A: b", size], "no name": [host, ": b", size],
        "no colon": [host, "nothing", size], "a value with a NUL": [host, "X-A: b\0c", size],
        "a value with a bare CR": [host, "X-A: b\rContent-Length: 0", size], "a name in brackets": [host, "[X]: b", size],
        "a control byte in a value": [host, "X-A: b\x01c", size], "a DEL in a name": [host, "X\x7f: b", size],
    }
    for what, lines in refused.items():
        yield what, lines, whole if "oded" in what or "chunk" in what or "cod" in what else body, 400
    for what, data in {
        "a chunk size with text": b"%xyz\r\n" % len(body) + body + b"\r\n0\r\n\r\n", "a chunk size with 0x": b"0x" + whole,
        "a chunk size with a sign": b"+" + whole, "a chunk size with a space before": b" " + whole,
        "a chunk with bare line feeds": whole.replace(b"\r\n", b"\n"), "an empty chunk size": b"\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk size beyond 64 bits": b"10000000000000001\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk that is longer than it says": b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 5, body),
        "no line end after a chunk": chunk[:-2] + b"0\r\n\r\n", "CR CR LF after a chunk": chunk[:-2] + b"\r\r\n0\r\n\r\n",
        "a negative chunk size": b"-5\r\n" + whole,
    }.items():
        yield what, [host, chunked], data, None
    yield "chunked", [host, chunked], whole, 200
    yield "chunked in capitals", [host, "Transfer-Encoding: CHUNKED"], whole, 200
    yield "a chunk extension", [host, chunked], b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(body), body), 200
    yield "a trailer", [host, chunked], chunk + b"0\r\nX-A: b\r\n\r\n", 200


@pytest.mark.row("F20")
def test_what_two_parsers_could_read_differently_is_refused_and_nothing_is_smuggled(kafka, make_bridge, ledger, topic, dice, asan, figures):
    bridge = make_bridge(kafka).start(topic_map=routes(topic))
    events = Events(dice, ledger, "framing")
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    counts = {400: 0, 200: 0, None: 0}
    for number, _ in enumerate(framing_cases(b"")):
        one, event, request = events.next()
        what, lines, data, wanted = next(itertools.islice(framing_cases(BODY % event), number, None))
        signature = [line for line in request.decode().split("\r\n") if line.startswith("Close-Sig")]
        head = "\r\n".join(["POST /webhooks/main HTTP/1.1", *lines, *signature]).encode("latin-1") + b"\r\n\r\n"
        with contextlib.closing(connect(bridge)) as connection:
            connection.sendall(head + data + smuggled)
            connection.shutdown(socket.SHUT_WR)
            answer = read_to_end(connection)
        is_accepted = answer.startswith(b"HTTP/1.1 200")
        assert is_accepted or answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401")), (what, answer[:300])
        assert answer.count(b"HTTP/1.1 ") <= 1, f"{what}: bytes behind the request were read as another"
        assert wanted is None or is_accepted == (wanted == 200), (what, answer[:300])
        events.sent(one, event, 200 if is_accepted else 400, "accepted" if is_accepted else None)
        counts[wanted] += 1
    verdict = settle_and_judge(bridge, kafka, topic, ledger)
    figures(cases=sum(counts.values()), refused=counts[400], accepted=verdict.accepted, smuggled=0)
    assert sum(counts.values()) >= 60
