"""Server-sent events as their specification has them, and the account of what they said."""

import json


class Events:
    """Takes the bytes of a stream in any pieces. An event counts when its blank line is there."""

    def __init__(self):
        self.rest = b""
        self.last_id = ""
        self._id, self._name, self._data = None, "", []

    def feed(self, piece):
        lines = (self.rest + piece).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            if event := self._line(line.decode()):
                yield event

    def _line(self, line):
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self._id = value
            elif name == "event":
                self._name = value
            else:
                assert name in ("", "retry"), f"no field of an event: {line}"
            return None
        if self._id is not None:
            self.last_id = self._id
        name, data = self._name or "message", self._data
        self._id, self._name, self._data = None, "", []
        return (name, json.loads("\n".join(data))) if data else None


class Account:
    """Every offset is told once, in order: as a record, as covered by what was told, or as a gap."""

    def __init__(self, next_offset=None):
        self.next = next_offset
        self.latest = {}
        self.records = []
        self.gaps = []
        self.names = []

    def take(self, name, data):
        self.names.append(name)
        if name == "message" and data.get("snapshot"):
            assert self.next is None, "a snapshot behind records"
            self.latest[data["key"]] = data
        elif name == "message":
            self._settle(int(data["offset"]), int(data["offset"]) + 1)
            self.records.append(data)
            self.latest[data["key"]] = data
        elif name == "covered":
            self._settle(int(data["from"]), int(data["to"]))
        elif name == "gap":
            self._settle(int(data["from"]), int(data["to"]))
            self.gaps.append(data)
        elif name == "snapshot_complete":
            self.next = int(data["as_of"])
        elif name == "caught_up":
            assert self.next in (None, int(data["next"])), (self.next, data)
            self.next = int(data["next"])

    def _settle(self, start, end):
        assert self.next in (None, start), f"expected {self.next}, got {start}"
        self.next = end

    @property
    def offsets(self):
        return [int(record["offset"]) for record in self.records]
