"""A TCP load balancer on loopback: each connection goes to the next backend that takes it."""
import contextlib
import itertools
import select
import socket
import threading


class Balancer:
    """`backends` are functions that return "host:port", so that a backend may move. close() cuts every connection."""

    def __init__(self, backends):
        self.backends = list(backends)
        self.turn = itertools.count()
        self.sockets = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with self.lock:
            self.listener.close()
            for one in self.sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            backend = self._connect()
            if backend is None:
                return
            with backend, self._known(client, backend):
                with contextlib.suppress(OSError):
                    forward(client, backend)

    def _connect(self):
        """To the next backend that takes the connection; None when none does."""
        first = next(self.turn)
        for number in range(len(self.backends)):
            host, port = self.backends[(first + number) % len(self.backends)]().rsplit(":", 1)
            with contextlib.suppress(OSError):
                return socket.create_connection((host, int(port)), timeout=2)
        return None

    @contextlib.contextmanager
    def _known(self, *pair):
        with self.lock:
            self.sockets.update(pair)
        try:
            yield
        finally:
            with self.lock:
                self.sockets.difference_update(pair)


def forward(one, other):
    """Until either end closes."""
    for end in (one, other):
        end.settimeout(None)
    while True:
        for source in select.select([one, other], [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)
