"""Faults of an HTTP server, queued by a test: the next matching requests get them, in order."""
import dataclasses
import fnmatch
import json
import threading


@dataclasses.dataclass
class Fault:
    status: int = None  # None: the answer's own
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = None
    edit: object = None  # a function of the answer's JSON that returns what is answered instead
    applied: bool = False  # the request takes effect before it fails, as when a proxy loses the answer
    delay: float = 0.0  # seconds before the answer
    drip: float = 0.0  # seconds between the bytes of the answer's body
    cut: str = None  # "request": no answer at all; "head": in the middle of the head; "body": in the middle of the body
    method: str = "*"
    path: str = "*"
    skip: int = 0  # so many matching requests pass first
    count: int = 1  # None: until heal()

    def matches(self, method, path):
        return self.method in ("*", method) and fnmatch.fnmatchcase(path, self.path)

    @property
    def replaces_answer(self):
        return self.status is not None or self.body is not None

    @property
    def prevents(self):
        """The request has no effect."""
        return not self.applied and (self.replaces_answer or self.cut == "request")


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.waiting = []

    def add(self, status=None, count=1, where=("*", "*"), json_body=None, **members):
        """`where` is (method, path below /api/v1, * stands for anything)."""
        if json_body is not None:
            members["body"] = json.dumps(json_body).encode()
        with self.lock:
            self.waiting.append(Fault(status=status, count=count, method=where[0], path=where[1], **members))

    def heal(self):
        with self.lock:
            self.waiting.clear()

    def take(self, method, path):
        """The fault of this request, or None."""
        with self.lock:
            for fault in self.waiting:
                if not fault.matches(method, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count == 0:
                        self.waiting.remove(fault)
                return fault
        return None
