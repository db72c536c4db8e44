"""Sessions and views by stock grpcio: selectors that come, change and go on one stream."""

import queue

from google.protobuf import duration_pb2
from harness import CALL_SECONDS, batch, readings, selector, upload
from ringfeed.v1 import feed_pb2


class Session:
    """Sends commands, and keeps what was said meanwhile of the selectors."""

    def __init__(self, feeds):
        self.commands = queue.SimpleQueue()
        self.stream = feeds.Session(iter(self.commands.get, None), timeout=CALL_SECONDS)
        self.said = []
        self.id = 0

    def ask(self, **command):
        self.id += 1
        self.commands.put(feed_pb2.SessionRequest(request_id=self.id, **command))
        for message in self.stream:
            if message.WhichOneof("event") == "answer":
                assert message.answer.request_id == self.id
                return message.answer.reason
            self.said.append(message.response)
        raise AssertionError("the session ended")

    def set(self, number, wanted):
        return self.ask(set=feed_pb2.SetSelector(selector_id=number, selector=wanted))

    def until(self, holds):
        """The next response that `holds`, or one that came before."""
        while self.said:
            response = self.said.pop(0)
            if holds(response):
                return response
        for message in self.stream:
            if message.WhichOneof("event") == "response" and holds(message.response):
                return message.response
        raise AssertionError("the session ended")


def is_event(name, number):
    return lambda response: response.WhichOneof("event") == name and response.selector == number


def test_selectors_come_change_and_go_on_one_stream(feeds):
    upload(feeds, batch("sensors", readings(10)))
    session = Session(feeds)
    snapshot = feed_pb2.Start(snapshot=feed_pb2.SnapshotStart())
    assert session.set(7, selector("sensors", snapshot)) == ""
    (latest,) = session.until(is_event("snapshot", 7)).snapshot.records
    assert (latest.reading.number, latest.offset) == (9.0, 9)
    assert session.until(is_event("snapshot_complete", 7)).snapshot_complete.as_of.offset == 10

    assert session.ask() == "INVALID_ARGUMENT"
    assert session.ask(remove=feed_pb2.RemoveSelector(selector_id=3)) != ""

    every_day = feed_pb2.Bars(interval=duration_pb2.Duration(seconds=86_400), include_open=True)
    bars = selector(
        "sensors",
        feed_pb2.Start(earliest=feed_pb2.Earliest()),
        fidelity=feed_pb2.Fidelity(bars=every_day),
    )
    assert session.set(8, bars) == ""
    bar = session.until(is_event("bars", 8)).bars.bars[-1]
    assert (bar.reading.min, bar.reading.max, bar.reading.count) == (0.0, 9.0, 10)

    often = feed_pb2.Conflate(interval=duration_pb2.Duration(nanos=20_000_000))
    change = feed_pb2.ChangeSelector(selector_id=7, fidelity=feed_pb2.Fidelity(conflate=often))
    assert session.ask(change=change) == ""
    upload(feeds, batch("sensors", readings(5, first=10)))
    covered = 10
    while covered < 15:
        records = session.until(is_event("records", 7)).records
        assert getattr(records.covers, "from") == covered
        covered = records.covers.to
    assert session.ask(remove=feed_pb2.RemoveSelector(selector_id=7)) == ""
    session.stream.cancel()
