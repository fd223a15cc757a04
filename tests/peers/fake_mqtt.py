"""An MQTT 5 broker that does what a test wants: refuses, lies, hangs up, is silent. It forwards nothing and keeps every publish.

The truth about what a client may count as delivered is `delivered`: what this broker acknowledged with a success code.
"""
import socket
import struct
import threading
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 12, 13, 14
RECEIVE_MAXIMUM, USER_PROPERTY, MAXIMUM_PACKET_SIZE, ASSIGNED_CLIENT_ID = 0x21, 0x26, 0x27, 0x12
FIXED = {0x01: 1, 0x02: 4, 0x23: 2}  # sizes of the properties that publishers send, but strings
STRINGS = {0x03, 0x08, 0x09}         # content type, response topic, correlation data


def variable_int(value):
    out = b""
    while True:
        value, byte = value >> 7, value & 0x7F
        out += bytes([byte | (0x80 if value else 0)])
        if not value:
            return out


def packet(kind, body, flags=0):
    return bytes([kind << 4 | flags]) + variable_int(len(body)) + body


class Publish:
    def __init__(self, flags, body):
        self.qos, self.dup = flags >> 1 & 3, bool(flags & 8)
        size = struct.unpack_from(">H", body)[0]
        self.topic, at = body[2:2 + size].decode(), 2 + size
        self.mid = struct.unpack_from(">H", body, at)[0] if self.qos else 0
        at += 2 if self.qos else 0
        properties, at = _take_properties(body, at)
        self.attributes = dict(properties)
        self.payload = body[at:]
        self.time = time.time()
        self.code = None  # with which it was answered

    @property
    def event_id(self):
        return self.attributes.get("closeeventid")


def _take_string(body, at):
    size = struct.unpack_from(">H", body, at)[0]
    return body[at + 2:at + 2 + size].decode(errors="replace"), at + 2 + size


def _take_properties(body, at):
    size = shift = 0
    while True:
        byte, at = body[at], at + 1
        size, shift = size | (byte & 0x7F) << shift, shift + 7
        if not byte & 0x80:
            break
    end, pairs = at + size, []
    while at < end:
        kind, at = body[at], at + 1
        if kind == USER_PROPERTY:
            name, at = _take_string(body, at)
            value, at = _take_string(body, at)
            pairs.append((name, value))
        elif kind in STRINGS:
            at = _take_string(body, at)[1]
        else:
            at += FIXED[kind]
    return pairs, end


class FakeMqtt:
    """Answers well unless told otherwise. Attributes may be set while it runs:

    connack      the reason code for connections; 0 takes them
    puback       a function of a Publish: the reason code for it, None: no answer before answer(), "hang up": the connection ends
    silent       nothing is read or answered any more
    properties   bytes of the properties of CONNACK
    """

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connack = 0
        self.puback = lambda publish: 0
        self.silent = False
        self.properties = b""
        self.publishes = []    # all, in order
        self.delivered = []    # of them, those acknowledged with a success code
        self.connects = []     # when connections were asked for, monotonic
        self.most_unanswered = 0
        self.connection = None  # the newest, and the packet ids on it that wait for an answer
        self.unanswered = set()
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def _accept(self):
        while not self.closed:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        unanswered = set()
        self.connection, self.unanswered = connection, unanswered
        try:
            stream = connection.makefile("rb")
            while not self.closed:
                kind, flags, body = self._read(stream)
                while self.silent and not self.closed:
                    time.sleep(0.05)
                self._answer(connection, kind, flags, body, unanswered)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            connection.close()

    @staticmethod
    def _read(stream):
        first = stream.read(1)
        size = shift = 0
        while first:
            byte = stream.read(1)
            if not byte:
                break
            size, shift = size | (byte[0] & 0x7F) << shift, shift + 7
            if not byte[0] & 0x80:
                body = stream.read(size)
                if len(body) == size:
                    return first[0] >> 4, first[0] & 15, body
                break
        raise EOFError

    def _answer(self, connection, kind, flags, body, unanswered):
        if kind == CONNECT:
            self.connects.append(time.monotonic())
            own = self.properties + bytes([ASSIGNED_CLIENT_ID]) + b"\0\4fake"
            connection.sendall(packet(CONNACK, bytes([0, self.connack]) + variable_int(len(own)) + own))
            if self.connack:
                raise EOFError
        elif kind == PINGREQ:
            connection.sendall(packet(PINGRESP, b""))
        elif kind == DISCONNECT:
            raise EOFError
        elif kind == PUBLISH:
            self._take(connection, Publish(flags, body), unanswered)

    def _take(self, connection, publish, unanswered):
        assert publish.mid not in unanswered or publish.dup, "a packet id that waits for its answer is used again"
        unanswered.add(publish.mid)
        self.most_unanswered = max(self.most_unanswered, len(unanswered))
        self.publishes.append(publish)
        code = self.puback(publish)
        if code == "hang up":
            raise EOFError
        if code is not None:
            self._acknowledge(connection, publish, code, unanswered)

    def answer(self, publish, code):
        """The reason code for a publish on the newest connection that waits for it."""
        self._acknowledge(self.connection, publish, code, self.unanswered)

    def _acknowledge(self, connection, publish, code, unanswered):
        publish.code = code
        unanswered.discard(publish.mid)
        if code < 0x80:
            self.delivered.append(publish)
        connection.sendall(packet(PUBACK, struct.pack(">HB", publish.mid, code) + b"\0"))

    def end_session(self, reason):
        """Sends DISCONNECT, such as 0x8E: session taken over."""
        connection = self.connection
        connection.sendall(packet(DISCONNECT, bytes([reason, 0])))
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster

    def cut(self):
        """The connection is reset, if there is one yet."""
        if not self.connection:
            return
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already

    def close(self):
        self.closed = True
        self.listener.close()
        if self.connection:
            self.connection.close()
