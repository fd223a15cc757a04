"""Both ends of Close for the tests of its simulator: a client of the REST API, and a receiver of webhooks."""
import base64
import collections
import hashlib
import hmac
import http.client
import http.server
import json
import pathlib
import threading
import urllib.parse

RECORDED = pathlib.Path(__file__).resolve().parents[1] / "data" / "close"
HOOK = "https://hooks.example.com/webhooks/main"


def recorded(name):
    """An answer of Close, recorded or from its documents."""
    return json.loads((RECORDED / name).read_text())


class Client:
    """Asks as a bridge does."""

    def __init__(self, server, key=None, token=None, tls=None):
        self.server = server
        self.tls = tls
        self.authorization = f"Bearer {token}" if token else (
            "Basic " + base64.b64encode(f"{key or server.api_key}:".encode()).decode())

    def __call__(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, JSON)"""
        url = urllib.parse.urlsplit(self.server.url)
        connection = (http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout, context=self.tls) if self.tls else
                      http.client.HTTPConnection(url.hostname, url.port, timeout=timeout))
        sent = {"Authorization": self.authorization, "Content-Type": "application/json", **(headers or {})}
        try:
            connection.request(method, url.path + path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            data = response.read()
            self.raw = data
            return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(data)
        finally:
            connection.close()


class Receiver(http.server.ThreadingHTTPServer):
    """Verifies signatures as Close's documents say, and answers what it is told to."""

    daemon_threads = True

    def __init__(self, key_of):
        super().__init__(("127.0.0.1", 0), Handler)
        self.key_of = key_of  # a function of the subscription's id
        self.answers_always = None  # a status
        self.statuses = collections.defaultdict(list)  # event id: answers to give before 200
        self.received = []
        self.lock = threading.Lock()

    def events(self):
        """The events that came, in their order."""
        return [json.loads(body)["event"] for _, body, _ in list(self.received)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        data = self.headers["close-sig-timestamp"].encode() + body
        key = self.server.key_of(json.loads(body)["subscription_id"])
        wanted = hmac.new(bytearray.fromhex(key), data, hashlib.sha256).hexdigest()
        with self.server.lock:
            self.server.received.append((dict(self.headers), body, wanted == self.headers["close-sig-hash"]))
            waiting = self.server.statuses[json.loads(body)["event"]["id"]]
            status = self.server.answers_always or (waiting.pop(0) if waiting else 200)
        answer = b'{"status":"accepted"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def created(ask, url=HOOK, pairs=(("lead", "created"),), **members):
    status, _, body = ask("POST", "/webhook/", {"url": url, "events": [
        {"object_type": kind, "action": action} for kind, action in pairs], **members})
    assert status == 201, body
    return body


def same_shape(ours, theirs):
    """The same members in the same order, of the same kinds."""
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if value is not None and ours[name] is not None:
            assert type(ours[name]) is type(value), name
        if isinstance(value, str) and name != "url":
            assert len(ours[name]) == len(value), name
