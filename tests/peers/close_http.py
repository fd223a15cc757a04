"""The HTTP side of Close's REST API: credentials, rate limits, faults, the request log; what it answers is decided elsewhere."""
import base64
import dataclasses
import email.utils
import http.server
import json
import math
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

from tests.peers.close_subscriptions import Refused, error

PREFIX = "/api/v1"
WITH_BODY = ("POST", "PUT")


@dataclasses.dataclass
class Identity:
    """Who a credential belongs to. A key belongs to a user; several keys may belong to one."""

    name: str  # what the request log shows instead of the credential
    user: str
    is_admin: bool = True


@dataclasses.dataclass
class Call:
    """One request, as the log keeps it. `phase` is arrived, applied or answered: see CloseServer.on_request."""

    number: int
    method: str
    path: str  # below /api/v1, without the query
    query: dict
    headers: dict
    body: bytes
    credential: str = dataclasses.field(default=None, repr=False)
    identity: Identity = None
    status: int = None  # None: there is no answer yet, or none at all
    phase: str = "arrived"
    at: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def group(self):
        """webhook, event ...: what a rate limit is for."""
        return (self.path + "/").split("/")[1]

    def __str__(self):
        return f"{self.method} {self.path}"


class RateLimiter:
    """So many requests per key and group of endpoints in windows of so many seconds."""

    def __init__(self, behaviour):
        self.behaviour = behaviour
        self.lock = threading.Lock()
        self.windows = {}  # by credential and group: [start, count]

    def take(self, call):
        """(limit, remaining, seconds until the window ends); remaining is negative when it is one too many."""
        limit, seconds = self.behaviour.rate_limit or (100, 5)
        now = time.monotonic()
        with self.lock:
            window = self.windows.setdefault((call.credential, call.group), [now, 0])
            if now - window[0] >= seconds:
                window[:] = [now, 0]
            window[1] += 1
            remaining = limit - window[1]
            if self.behaviour.rate_limit is None:
                remaining = max(1, remaining)
            return limit, remaining, window[0] + seconds - now

    def headers(self, limit, remaining, reset):
        shown = round(reset, 3) if self.behaviour.rate_limit_reset_is_decimal else math.ceil(reset)
        parts = (f"limit={limit}", f"remaining={max(0, remaining)}", f"reset={shown}")
        return {"RateLimit": self.behaviour.rate_limit_separator.join(parts)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "close-simulator"
    sys_version = ""
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(timestamp or self.server.close.now(), usegmt=True)

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET

    def _serve(self):
        close = self.server.close
        call = self._read()
        close.note(call, "arrived")
        fault = close.faults.take(call.method, call.path)
        if fault and fault.prevents:
            status, headers, body = None, {}, {}
        else:
            status, headers, body = self._apply(call)
        close.note(call, "applied")
        if fault and fault.edit:
            body = fault.edit(body)
        payload = json.dumps(body).encode()
        if fault:
            self._fail(call, fault, status, headers, payload)
        else:
            self._answer(call, status, headers, payload)
        close.note(call, "answered")

    def _read(self):
        parts = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = parts.path[len(PREFIX):] if parts.path.startswith(PREFIX) else parts.path
        headers = {name.lower(): value for name, value in self.headers.items()}
        credential = credential_of(headers.pop("authorization", ""))
        query = dict(urllib.parse.parse_qsl(parts.query))
        return Call(next(self.server.close.numbers), self.command, path, query, headers, body, credential)

    def _apply(self, call):
        """(status, headers, JSON) as Close answers."""
        close = self.server.close
        headers = {}
        try:
            call.identity = close.identify(call.credential)
            limit, remaining, reset = close.limiter.take(call)
            headers = close.limiter.headers(limit, remaining, reset)
            if remaining < 0:
                headers["retry-after"] = str(math.ceil(reset))
                return 429, headers, {}
            if not self.path.startswith(PREFIX + "/"):
                raise error(404, "Not found.")
            if call.method in WITH_BODY and call.headers.get("content-type", "").split(";")[0] != "application/json":
                raise error(415, "Content-Type has to be application/json.")
            status, body = close.handle(call)
            return status, headers, body
        except Refused as refused:
            return refused.status, headers, refused.body

    def _answer(self, call, status, headers, payload):
        call.status = status
        self.send_response(status)
        self._send_headers(headers, len(payload))
        self.wfile.write(payload)

    def _send_headers(self, headers, size):
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _fail(self, call, fault, status, headers, payload):
        if fault.delay:
            self.server.close.stopping.wait(fault.delay)
        if fault.cut == "request":
            self._reset()
            return
        if fault.replaces_answer:
            status = fault.status or status or 200
            payload = fault.body if fault.body is not None else b'{"error": "Something went wrong."}'
        self.send_response(status)
        if fault.cut == "head":
            self.wfile.write(b"".join(self._headers_buffer))
            self._reset()
            return
        call.status = status
        self._send_headers({**headers, **fault.headers}, len(payload))
        self._write_body(fault, payload)

    def _write_body(self, fault, payload):
        if fault.cut == "body":
            payload = payload[:len(payload) // 2]
        if fault.drip:
            for at in range(len(payload)):
                self.wfile.write(payload[at:at + 1])
                if self.server.close.stopping.wait(fault.drip):
                    break
        else:
            self.wfile.write(payload)
        if fault.cut:
            self._reset()

    def _reset(self):
        """Ends the connection at once, with a reset rather than an end."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ValueError):  # the client is gone, or the connection was cut on request
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass


def credential_of(header):
    """The API key or the token of an Authorization header; None for anything else."""
    scheme, _, value = header.partition(" ")
    if scheme == "Bearer":
        return value
    if scheme != "Basic":
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    return user if colon and not password else None


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, close, port, certificate=None):
        super().__init__(("127.0.0.1", port), Handler)
        self.close = close
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:  # shakes hands at the first read, on the connection's own thread
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address):
        """A broken connection is the test's own doing; anything else has to be seen."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
