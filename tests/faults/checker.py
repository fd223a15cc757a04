"""The judge of every fault test: compares what was answered 2xx with everything that came out.

It knows the promise (RELIABILITY I1-I4) and nothing of how the bridge keeps it. A Ledger is written as things happen and only
appended to; judge() compares its sets:

    lost        answered 2xx, and neither delivered nor dead nor still pending, for a publisher
    duplicated  delivered more than once under one topic
    invented    came out, but was never sent with a valid signature, or with other bytes, or under another key
    reordered   of one topic and key, an event came out after one that was sent when it had been answered already
"""
import collections
import hashlib
import json
import os
import pathlib
import threading
from typing import NamedTuple, Optional

DELIVERED, DEAD, PENDING = "delivered", "dead", "pending"
EVERY = "*"  # as the publisher of a dead letter: the body was no event, so it is for no publisher
NEVER = float("inf")


def digest(data):
    return hashlib.sha256(data).hexdigest()[:32]


class Version(NamedTuple):
    """An event: the same id with other bytes is another one."""
    id: str
    event: str


class Sent(NamedTuple):
    """One request. `word` is the status in the answer's body; status and word are None without an answer."""
    id: str
    key: str
    account: str
    body: str          # digest of the request's body
    event: str         # digest of the event object in it; of the body when it is no event
    signed: bool       # with a key that the bridge knows, and a fresh timestamp
    status: Optional[int]
    word: Optional[str]
    began: float       # monotonic
    ended: float

    @property
    def version(self):
        return Version(self.id, self.event)

    @property
    def is_promised(self):
        return self.status is not None and 200 <= self.status < 300 and self.word != "ignored"


class Out(NamedTuple):
    """One thing that came out. A publisher's entries under one topic and key are in the order of the broker."""
    how: str           # DELIVERED, DEAD or PENDING
    publisher: str     # or EVERY
    topic: str
    id: str            # empty when it is no event
    key: Optional[str]
    digest: str        # of the value: the event object or the whole body
    time: float        # seconds since 1970, by the broker's clock; 0 when it is not known


class Ledger:
    """Append-only, in memory and in a file of JSON lines. Safe for threads."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.file = open(self.path, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self._sent = []
        self._out = []

    def _append(self, entries, kind, entry):
        with self.lock:
            entries.append(entry)
            self.file.write(json.dumps([kind, *entry]) + "\n")

    def sent(self, entry):
        self._append(self._sent, "sent", entry)

    def out(self, entry):
        self._append(self._out, "out", entry)

    def sends(self):
        with self.lock:
            return tuple(self._sent)

    def outs(self):
        with self.lock:
            return tuple(self._out)

    def accepted_ids(self):
        return {sent.id for sent in self.sends() if sent.is_promised and sent.word != "dead_lettered"}

    def excerpt(self, until=NEVER):
        """A ledger of what was sent and answered by that moment (monotonic), without anything that came out."""
        excerpt = Ledger(os.devnull)
        for sent in self.sends():
            if sent.ended <= until:
                excerpt.sent(sent)
        return excerpt

    # ---- what comes out ----

    def take_kafka(self, records, publisher="kafka"):
        for record in records:
            self.out(Out(DELIVERED, publisher, record.topic, record.event_id or "", record.key, digest(record.value),
                         record.timestamp / 1000))

    def take_mqtt(self, messages, publisher="mqtt"):
        for message in messages:
            value = message.digest if hasattr(message, "digest") else digest(message.payload)
            self.out(Out(DELIVERED, publisher, message.topic, message.event_id or "", None, value, getattr(message, "time", 0)))

    def take_journal(self, journal, *publishers):
        """What a stopped bridge keeps (see journal.py): events behind each cursor, parked records, dead letters."""
        for event in journal.events:
            for publisher in publishers:
                if event["seq"] > journal.cursors.get(publisher, 0):
                    self.out(Out(PENDING, publisher, "", event["id"], None, event["sha"], 0))
        for letter in journal.parked:
            self.out(Out(PENDING, letter["publisher"], letter["topic"], letter["id"], None, letter["sha"], 0))
        for letter in journal.dead:
            publisher = EVERY if letter["publisher"] == "webhook" else letter["publisher"]
            self.out(Out(DEAD, publisher, letter["topic"], letter["id"], None, letter["sha"], 0))


class Verdict:
    """What is wrong, by kind. `duplicated` counts the copies too many, by publisher."""

    def __init__(self, publishers):
        self.accepted = 0
        self.delivered = collections.Counter()
        self.lost = {publisher: [] for publisher in publishers}
        self.duplicates = []   # the Outs that came again
        self.invented = []     # (Out, why)
        self.reordered = []    # (publisher, topic, key, the id that came too late, the id that came before it)

    @property
    def duplicated(self):
        counts = collections.Counter(out.publisher for out in self.duplicates)
        return {publisher: counts[publisher] for publisher in self.lost}

    def __str__(self):
        return (f"accepted {self.accepted}, lost {sum(map(len, self.lost.values()))}, duplicated {self.duplicated}, "
                f"invented {len(self.invented)}, reordered {len(self.reordered)}")

    def check(self, duplicates=0):
        """Fails unless nothing is wrong but, for each publisher, at most so many copies too many."""
        assert not any(self.lost.values()), f"lost: {self}: {({p: ids[:5] for p, ids in self.lost.items()})}"
        assert not self.invented, f"invented: {self}: {self.invented[:3]}"
        assert not self.reordered, f"reordered: {self}: {self.reordered[:3]}"
        assert all(count <= duplicates for count in self.duplicated.values()), f"duplicated: {self}, allowed {duplicates}"
        return self

    def most_duplicates_between(self, moments):
        """By publisher, the largest number of copies that came between two of the moments, by the broker's clock."""
        spans = list(zip([0.0, *moments], [*moments, NEVER]))
        return {publisher: max(sum(start <= out.time < end for out in self.duplicates if out.publisher == publisher)
                               for start, end in spans) for publisher in self.lost}


class _Case:
    """What judge() makes of a ledger before it compares."""

    def __init__(self, ledger):
        self.sends, self.outs = ledger.sends(), ledger.outs()
        self.keys = collections.defaultdict(set)  # by version
        self.began = {}                           # by version: when it was first sent
        self.promised = {}                        # by version: when it first was answered 2xx
        self.opaque = set()                       # versions that were answered dead_lettered
        versions = {}                             # (id, digest of body or event): the version that was sent with a signature
        for sent in self.sends:
            version = sent.version
            self.keys[version].add(sent.key)
            self.began[version] = min(self.began.get(version, NEVER), sent.began)
            if sent.signed:
                versions.update({(sent.id, sent.body): version, (sent.id, sent.event): version, ("", sent.body): version})
            if sent.is_promised:
                self.promised[version] = min(self.promised.get(version, NEVER), sent.ended)
                if sent.word == "dead_lettered":
                    self.opaque.add(version)
        self.matches = [(out, versions.get((out.id, out.digest))) for out in self.outs]


def judge(ledger, *publishers):
    """Compares the sets. `publishers`: where every accepted event has to come out."""
    verdict, case = Verdict(publishers), _Case(ledger)
    verdict.accepted = len(case.promised)
    _find_lost(verdict, case)
    _find_invented(verdict, case)
    _find_duplicates(verdict, case)
    _find_reordered(verdict, case)
    return verdict


def _find_lost(verdict, case):
    there = collections.defaultdict(set)
    for out, version in case.matches:
        there[out.publisher].add(version)
    for publisher, lost in verdict.lost.items():
        lost += [version.id for version in case.promised
                 if version not in there[EVERY] and (version in case.opaque or version not in there[publisher])]


def _find_invented(verdict, case):
    ids = {version.id for version in case.keys}
    for out, version in case.matches:
        if version is None:
            why = "the bytes are not those that were sent" if out.id in ids else "nothing was sent with this id"
            verdict.invented.append((out, why + ", with a valid signature"))
        elif out.key is not None and out.key not in case.keys[version]:
            verdict.invented.append((out, "the key is not that of the event"))


def _find_duplicates(verdict, case):
    seen = set()
    for out, version in case.matches:
        if out.how == DELIVERED:
            verdict.delivered[out.publisher] += 1
            place = (out.publisher, out.topic, version)
            if place in seen:
                verdict.duplicates.append(out)
            seen.add(place)


def _find_reordered(verdict, case):
    """`a` has to come out before `b` when `a` had its 2xx before `b` was sent for the first time."""
    newest = {}  # by publisher, topic and key: of the events that came out, the one that was sent last
    seen = set()
    for out, version in case.matches:
        place = (out.publisher, out.topic, version)
        if out.how != DELIVERED or version is None or place in seen:
            continue
        seen.add(place)
        line = (out.publisher, out.topic, out.key or min(case.keys[version]))
        before = newest.get(line)
        if before and case.promised.get(version, NEVER) < case.began[before]:
            verdict.reordered.append((*line, version.id, before.id))
        if before is None or case.began[version] > case.began[before]:
            newest[line] = version
