"""Secrets that are marked, and whether they are anywhere where they should not be, in whatever spelling."""
import base64
import secrets

SHORTEST = 12  # bytes: so long a piece of a secret is as good as found


def _base64(value, alphabet):
    """As it stands within longer values: what its neighbours have no part in."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value, alphabet)
        yield encoded[(before * 8 + 5) // 6:(before + len(value)) * 8 // 6]


def spellings(value):
    """(bytes, whether letters may be in any case)"""
    yield value, False
    yield value.hex().encode(), True
    for alphabet in (b"+/", b"-_"):
        for encoded in _base64(value, alphabet):
            yield encoded, False


def pieces(spelling):
    """Its beginning and its end: what is cut short is found as well."""
    return {spelling[:SHORTEST], spelling[-SHORTEST:]}


class Canaries:
    def __init__(self):
        self.marks = {}  # (bytes, any case): what it is
        self.seen = []   # (where, bytes)

    def text(self, what):
        """A new secret."""
        return self.add(what, secrets.token_urlsafe(24))

    def key(self, what):
        """A new signature key."""
        value = secrets.token_bytes(32)
        self.add(what, value)
        return value.hex()

    def add(self, what, value):
        raw = value.encode() if isinstance(value, str) else value
        assert len(raw) >= 2 * SHORTEST, "too short to be told from chance"
        for spelling, any_case in spellings(raw):
            for piece in pieces(spelling):
                self.marks[piece.lower() if any_case else piece, any_case] = what
        return value

    def look(self, where, data):
        """`data` was shown to somebody, or is kept somewhere."""
        self.seen.append((where, data.encode() if isinstance(data, str) else data))

    def hits(self):
        """["what in where"]"""
        found = set()
        for where, data in self.seen:
            lowered = data.lower()
            for (mark, any_case), what in self.marks.items():
                if mark in (lowered if any_case else data):
                    found.add(f"{what} in {where}")
        return sorted(found)
