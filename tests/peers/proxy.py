"""A TCP proxy that makes a bad network of a good one: delay, little bandwidth, resets, and connections that fall silent."""
import socket
import struct
import threading
import time

from tests.peers.process import free_port


class Proxy:
    """Attributes may be set while it runs:

    delay    seconds that each piece takes in each direction
    rate     bytes a second in each direction; 0: as many as come
    resets   a function called for each piece: True resets the connection
    refuses  new connections are reset at once
    """

    def __init__(self, target_port):
        self.port = free_port()
        self.target_port = target_port
        self.delay = 0.0
        self.rate = 0
        self.resets = lambda: False
        self.refuses = False
        self.connections = []  # (client, server, is it silent)
        self.closed = False
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            pair = [client, server, False]
            self.connections.append(pair)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(pair, source, sink), daemon=True).start()

    def _forward(self, pair, source, sink):
        try:
            while data := source.recv(8192 if self.rate else 65536):
                if pair[2]:
                    continue  # it is lost, and nobody is told
                if self.resets():
                    break
                if self.delay:
                    time.sleep(self.delay)
                if self.rate:
                    time.sleep(len(data) / self.rate)
                sink.sendall(data)
        except OSError:
            pass
        if not pair[2]:
            _reset(source)
            _reset(sink)

    def fall_silent(self):
        """What is connected now stays so and carries nothing any more, for ever; new connections are good."""
        for pair in self.connections:
            pair[2] = True

    def cut(self):
        """Resets what is connected now."""
        for client, server, _ in self.connections:
            _reset(client)
            _reset(server)
        self.connections.clear()

    def close(self):
        self.listener.close()
        self.cut()


def _reset(connection):
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    except OSError:
        pass
