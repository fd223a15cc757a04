"""What nobody may do to the bridge, or learn from it: the requirements S1 to S22 of docs/reliability.md that have no place elsewhere."""
import datetime
import gzip
import os
import re
import socket
import ssl
import threading
import time
import zlib

import pytest

from tests.e2e.bridge import KEY, ROOT
from tests.e2e.subscriber import Subscriber
from tests.faults.measure import status
from tests.peers.certificates import Authority, openssl
from tests.peers.process import wait_until

LINE = re.compile(r'time=\S+ level=(debug|info|warn|error) event=[a-z0-9_.]+( [a-z0-9_]+=("([^"\\\x00-\x1f\x7f-\x9f]|\\.)*"|[^\s"=\\]*))*')


def to_kafka(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


# ---- S6, S7, S22: what the listener answers ----

def test_a_401_does_not_say_why_and_an_operator_can_read_it(bridge, close_server, topic):
    bridge.start(accounts=[{"name": "main", "signature_keys": [KEY], "sync": "manual"},
                           {"name": "keyless", "api_key": close_server.api_key, "api_url": close_server.url, "sync": "manual"}],
                 topic_map=to_kafka(topic))
    body = bridge.body(bridge.event())
    answers = [bridge.post_signed(body, **how) for how in (
        {"key": "00" * 32}, {"timestamp": 1}, {"timestamp": "now"}, {"timestamp": int(time.time()) - 90 * 3600},
        {"without": ["close-sig-hash"]}, {"without": ["close-sig-timestamp"]}, {"without": ["close-sig-hash", "close-sig-timestamp"]},
        {"headers": {"Close-Sig-Hash": "0" * 63}}, {"headers": {"Close-Sig-Hash": "0" * 65}}, {"account": "keyless"})]
    shown = {(answer.status, answer.body, tuple(sorted(name for name in answer.headers))) for answer in answers}
    assert len(shown) == 1 and answers[0].status == 401, shown
    reasons = [refusal["reason"] for refusal in bridge.control("/control/refusals").json["refusals"]]
    assert {"no_keys", "malformed_signature", "missing_signature", "stale"} < set(reasons), reasons


def test_an_encoded_body_is_refused_before_anything_is_unpacked(bridge, topic):
    bridge.start(topic_map=to_kafka(topic))
    raw = b" " * (100 << 20)
    bombs = {"gzip": gzip.compress(raw), "x-gzip": gzip.compress(gzip.compress(raw)), "deflate": zlib.compress(raw), "br": b"\xcb\xff" * 99,
             "zstd": b"\x28\xb5\x2f\xfd" * 99, "gzip, gzip": gzip.compress(gzip.compress(raw)), "GZIP": gzip.compress(raw), "": b"{}",
             "identity, gzip": b"{}"}
    before = status(bridge.process.pid, "VmHWM")
    for encoding, body in bombs.items():
        answer = bridge.post_signed(body, headers={"Content-Encoding": encoding})
        assert (answer.status, answer.json["error"]) == (415, "unsupported_encoding"), (encoding, answer)
    assert status(bridge.process.pid, "VmHWM") - before < 16 << 20
    assert bridge.post_signed(bridge.event(), headers={"Content-Encoding": "identity"}).status == 200


def test_no_answer_redirects_or_says_gone(bridge, topic):
    """410 makes senders delete a webhook, and a redirect takes an event elsewhere."""
    bridge.start(topic_map=to_kafka(topic))
    statuses = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for path in ("/", "/webhooks", "/webhooks/", "/webhooks/main", "/webhooks/main/", "/webhooks/other", "/webhooks/main?a=b",
                     "//webhooks/main", "/webhooks/../webhooks/main", "/webhooks/%6dain", "*"):
            statuses.add(bridge.request(method, path, b"{}").status)
    assert statuses <= {400, 401, 404, 405}, statuses
    spec = (ROOT / "docs" / "control.openapi.yaml").read_text()
    for path in re.findall(r"^  (/\S+):$", spec, re.M):  # S14
        for method in ("GET", "POST", "DELETE"):
            assert bridge.request(method, path, headers={"Authorization": "Bearer a"}).status == 404, (method, path)


# ---- S8: connections ----

def connect(bridge, source):
    host, port = bridge.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))


def is_open(connection):
    connection.settimeout(10)
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1 404")
    except ConnectionError:
        return False


def test_one_address_has_its_share_of_connections(bridge, topic):
    bridge.start(listen={"max_connections_per_address": 5}, topic_map=to_kafka(topic))
    held = [connect(bridge, "127.0.0.2") for _ in range(5)]
    assert all(is_open(connection) for connection in held)
    for _ in range(20):
        with connect(bridge, "127.0.0.2") as connection:
            assert not is_open(connection)
    others = [connect(bridge, "127.0.0.3") for _ in range(5)]
    assert all(is_open(connection) for connection in held + others), "nobody else is touched"
    lines = re.findall(r"event=http\.address_full .*", bridge.log())
    assert 1 <= len(lines) <= 2, "once for each thread, not for each connection"
    assert "listener=webhooks address=127.0.0.2 limit=5" in lines[0]
    for connection in held:
        connection.close()

    def has_room():
        with connect(bridge, "127.0.0.2") as connection:
            return is_open(connection)
    wait_until(has_room, 10, "the address has room again")
    for connection in others:
        connection.close()


# ---- S11, S13: nothing from outside becomes a header, a property or a line of the log ----

HOSTILE = ["a\r\ntime=2026-01-01T00:00:00.000Z level=error event=forged", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "a\0b", "x" * 5000, "\u202e",
           'a" b="c', "%0d%0aevent=forged", "\u2028event=forged", "\x7f"]


def test_what_comes_from_outside_cannot_forge_headers_or_lines_of_the_log(make_bridge, kafka, mosquitto, topic):
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
    tap = mosquitto.subscribe(topic)
    marker = "a-payload-that-nobody-may-log"
    names = ("lead_id", "object_id", "organization_id", "date_created", "date_updated", "user_id", "request_id")
    sent = []
    for hostile in HOSTILE:
        for name in names:
            event = {**bridge.event(), name: hostile, "data": {"name": marker}}
            answer = bridge.post_signed(event, headers={"Ce-Id": "smuggled", "X-Forged": marker, "Content-Type": "text/html",
                                                        "Traceparent": "00-smuggled", "User-Agent": "smuggled"})
            assert answer.status == 200, (name, hostile, answer)
            sent.append((event["id"], answer.json["status"]))
        bridge.post_signed({**bridge.event(), "id": hostile, "data": {"name": marker}})
        bridge.post_signed({**bridge.event(), "object_type": hostile, "data": {"name": marker}})
        bridge.post_signed(b'{"' + marker.encode() + b'": "' + hostile.encode())
        line = f"POST /webhooks/{hostile} HTTP/1.1\r\nHost: h\r\nUser-Agent: {hostile}\r\nX-{hostile}: {hostile}\r\n\r\n"
        bridge.raw(line.encode("utf-8", "surrogateescape"))
    accepted = {one for one, answer in sent if answer == "accepted"}
    assert len(accepted) > len(HOSTILE) * 3
    with kafka.reader(topic) as reader:
        everything = reader.until(lambda records: accepted <= {record.event_id for record in records}, 30)
    records = [record for record in everything if record.event_id in accepted]
    allowed = {"content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_closeeventid",
               "ce_closeaccount", "ce_closesubscription", "ce_closedateupdated", "ce_closeorigin"}
    for record in records:
        found = [name for name, _ in record.header_list]
        assert len(found) == len(set(found)) and set(found) <= allowed, record.header_list
        assert record.headers["ce_id"].startswith(record.event_id) and record.headers["content-type"] == "application/json"
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]|smuggled", " ".join(record.headers.values())), record.headers
    tap.until(lambda messages: accepted <= {message.event_id for message in messages})
    for message in tap.messages:
        assert {"ce_" + name for name, _ in message.attribute_list} <= allowed
    refusals = bridge.control("/control/refusals")
    assert refusals.status == 200 and marker not in refusals.body.decode()
    assert bridge.terminate() == 0
    for line in bridge.log_path.read_bytes().decode("utf-8").split("\n")[:-1]:
        assert LINE.fullmatch(line), line
        assert len(line) < 2000 and marker not in line and "event=forged" not in line.split('"')[0], line


# ---- S15, S16: whom the bridge talks to ----

class TlsServer:
    """Shakes hands with whoever comes and keeps what they say after that."""

    def __init__(self, certificate, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.attempts, self.said = 0, b""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            try:
                with self.context.wrap_socket(connection, server_side=True) as wrapped:
                    self.said += wrapped.recv(100)
            except OSError:
                pass
            self.attempts += 1


@pytest.fixture
def make_tls_server():
    made = []

    def make(pair):
        made.append(TlsServer(*pair))
        return made[-1]

    yield make
    for server in made:
        server.listener.close()


def expired(authority):
    """Signed as it should be, and over since yesterday."""
    certificate, key = authority.sign("expired")
    day = "%Y%m%d%H%M%SZ"
    now = datetime.datetime.now(datetime.timezone.utc)
    (authority.folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={authority.folder}/index\nserial={authority.folder}/serial\nnew_certs_dir={authority.folder}\n"
        "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
    (authority.folder / "index").write_text("")
    (authority.folder / "serial").write_text("77\n")
    openssl("ca", "-batch", "-notext", "-config", authority.folder / "ca.cnf", "-cert", authority.certificate, "-keyfile", authority.key,
            "-in", authority.folder / "expired.csr", "-out", certificate, "-extfile", authority.folder / "expired.ext",
            "-startdate", (now - datetime.timedelta(days=2)).strftime(day), "-enddate", (now - datetime.timedelta(days=1)).strftime(day))
    return certificate, key


def test_a_broker_whose_certificate_is_wrong_hears_nothing(make_bridge, make_tls_server, tmp_path):
    authority, strangers = Authority(tmp_path / "authority"), Authority(tmp_path / "strangers", "strangers")
    pairs = {"good": authority.sign("good"), "expired": expired(authority), "wrong host": authority.sign("wrong", hosts="DNS:example.com"),
             "of strangers": strangers.sign("stranger"), "self-signed": (strangers.certificate, strangers.key)}
    for what, pair in pairs.items():
        kafka, mqtt = make_tls_server(pair), make_tls_server(pair)
        bridge = make_bridge(name=what.replace(" ", "-"))
        bridge.start(publishers={"kafka": {"bootstrap.servers": f"127.0.0.1:{kafka.port}", "security.protocol": "ssl",
                                           "ssl.ca.location": str(authority.certificate), "reconnect.backoff.max.ms": 200},
                                 "mqtt": {"url": f"mqtts://127.0.0.1:{mqtt.port}", "ca": str(authority.certificate)}},
                     topic_map=[{"object_type": "*", "kafka": {"topic": "t"}, "mqtt": {"topic": "t", "qos": 1}}])
        for server in (kafka, mqtt):
            wait_until(lambda server=server: server.said or (what != "good" and server.attempts >= 2), 30,
                       f"{what}: the bridge connects")
            assert bool(server.said) == (what == "good"), (what, server.said)
        assert bridge.terminate() == 0


def test_a_redirect_of_close_leads_the_key_nowhere(bridge, close_server, make_close_server, topic):
    other = make_close_server()
    subscriber = Subscriber(bridge, close_server, topic, sync="manual")
    subscriber.start()
    for code in (301, 302, 303, 307, 308):
        for place in (f"{other.url}/webhook/", other.url.replace("http:", "https:"), "http://169.254.169.254/latest/", "file:///etc/passwd",
                      "gopher://127.0.0.1:1/", "//127.0.0.1/"):
            close_server.faults.add(status=code, headers={"location": place})
            assert subscriber.sync()["result"] == "failed", (code, place)
            close_server.faults.heal()
    assert other.calls == [], "nobody else was asked"
    assert close_server.api_key not in bridge.log()


# ---- S21: files ----

def test_links_in_place_of_its_files_lead_nowhere(bridge, close_server, topic):
    Subscriber(bridge, close_server, topic).start().wait_synced()
    assert bridge.post_signed(bridge.event(), key=close_server.own()[0].key).status == 200
    assert bridge.terminate() == 0
    folder = bridge.folder / "journal"
    files = sorted(path for path in [*folder.iterdir(), *bridge.folder.glob("journal.*")] if path.is_file())
    assert {"data.mdb", "journal.keys"} <= {path.name for path in files}, files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600} and folder.stat().st_mode & 0o777 == 0o700
    victim = bridge.folder / "victim"
    served = set()
    for path in files:
        for link in (os.symlink, os.link):
            content = path.read_bytes()
            victim.write_bytes(content or b"of somebody else")
            before = victim.read_bytes(), victim.stat().st_mtime_ns
            path.unlink()
            link(victim, path)
            bridge.launch()
            wait_until(lambda: not bridge.process.is_running or "listener=webhook" in bridge.log_since_start(), 30, "it starts or refuses")
            if bridge.process.is_running:
                assert bridge.terminate() == 0
                served.add((path.name, link.__name__))
            else:
                assert str(folder) in bridge.log_since_start(), (path.name, link.__name__)
            assert (victim.read_bytes(), victim.stat().st_mtime_ns) == before, (path.name, link.__name__)
            path.unlink()
            path.write_bytes(content)
            path.chmod(0o600)
            victim.unlink()
    # A mark that is only believed when it is right, and a file that is locked and never written.
    assert served == {("clean", "symlink"), ("clean", "link"), ("journal.keys.lock", "link")}
    bridge.start()
