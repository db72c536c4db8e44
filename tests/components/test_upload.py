"""Uploads by stock grpcio: repeats, refusals, small messages in quantity."""

import queue
import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from harness import CALL_SECONDS, TORTURE, batch, reading, readings, selector, stored, subscribe
from harness import unpack, upload
from ringfeed.v1 import catalog_pb2, feed_pb2, record_pb2

SMALL_MESSAGES = 2_000_000 if TORTURE else 200_000


def test_what_is_uploaded_is_read_back(feeds):
    summary = upload(feeds, batch("sensors", readings(3)), batch("", readings(2, first=3)))
    assert (summary.stored, summary.duplicates, summary.refused) == (5, 0, 0)
    assert getattr(summary.feeds[0].offsets, "from") == 0 and summary.feeds[0].offsets.to == 5
    read = stored(feeds, "sensors")
    assert read.offsets == [0, 1, 2, 3, 4]
    assert read.numbers == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert all(record.time_assigned for record in read.records)


def test_an_upload_that_was_cut_is_sent_again_without_a_second_copy(feeds, catalog):
    """The client is cut in the middle, asks nothing, and sends everything in other batches."""
    total, gate = 3_000, threading.Event()

    def cut_after_half():
        for first in range(0, total // 2, 10):
            yield batch("sensors", readings(10, first=first), "pi17", first + 1)
        gate.wait(CALL_SECONDS)

    call = feeds.Ingest.future(cut_after_half())
    known = catalog_pb2.GetProducerRequest(feed="sensors", producer="pi17")
    while durable(catalog, known) < total // 4:
        pass
    call.cancel()
    gate.set()
    again = (
        batch("sensors", readings(min(77, total - first), first=first), "pi17", first + 1)
        for first in range(0, total, 77)
    )
    summary = feeds.Ingest(again, timeout=CALL_SECONDS)
    assert summary.stored + summary.duplicates == total
    assert summary.duplicates >= total // 4
    assert stored(feeds, "sensors").numbers == [float(i) for i in range(total)]
    assert durable(catalog, known) == total


def durable(catalog, request):
    try:
        return catalog.GetProducer(request).producer.durable_sequence
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        return 0


def test_bad_records_are_refused_by_index_and_the_others_are_stored(feeds):
    records = [
        reading("a", 1.0),
        reading("b", float("nan")),
        reading("", 2.0),
        record_pb2.Record(key="c"),
        reading("d", 3.0),
    ]
    summary = upload(feeds, batch("sensors", readings(2)), batch("sensors", records, mode=1))
    assert (summary.stored, summary.refused) == (4, 3)
    told = [(refusal.index, refusal.field, refusal.reason) for refusal in summary.refusals]
    assert told[0] == (3, "reading.number", "NOT_FINITE")
    assert [(index, field) for index, field, _ in told[1:]] == [(4, "key"), (5, "payload")]
    assert all(refusal.message for refusal in summary.refusals)
    assert [record.key for record in stored(feeds, "sensors").records][2:] == ["a", "d"]


def test_an_atomic_batch_with_a_bad_record_stores_nothing_and_says_why(feeds):
    bad = batch("sensors", [reading("a", 1.0), reading("b", float("inf"))], "pi17", 4, mode=2)
    with pytest.raises(grpc.RpcError) as failed:
        upload(feeds, batch("sensors", readings(3), "pi17", 1), bad)
    error = failed.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    violations = unpack(error, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == ["records[1].reading.number"]
    info = unpack(error, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("ringfeed", "NOT_FINITE")
    assert unpack(error, feed_pb2.IngestProgress).stored_through_sequence == 3
    assert len(stored(feeds, "sensors").records) == 3


def test_a_hole_in_the_numbers_is_refused_and_names_the_number_expected(feeds):
    with pytest.raises(grpc.RpcError) as failed:
        upload(feeds, batch("s", readings(3), "pi17", 1), batch("s", readings(1), "pi17", 9))
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    info = unpack(failed.value, error_details_pb2.ErrorInfo)
    assert info.reason == "SEQUENCE_GAP" and info.metadata["expected"] == "4"


def test_a_number_used_again_for_other_content_is_refused(feeds):
    upload(feeds, batch("s", readings(3), "pi17", 1))
    with pytest.raises(grpc.RpcError) as failed:
        upload(feeds, batch("s", readings(3, first=100), "pi17", 1))
    assert unpack(failed.value, error_details_pb2.ErrorInfo).reason == "SEQUENCE_REUSED"
    assert len(stored(feeds, "s").records) == 3


def test_a_message_over_the_limit_is_refused_with_advice(feeds):
    text = record_pb2.Reading(text="x" * 4_000)
    records = [record_pb2.Record(key="k", reading=text)] * 400
    with pytest.raises(grpc.RpcError) as failed:
        upload(feeds, batch("s", records))
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1 MiB" in failed.value.details()


def test_compressed_messages_are_taken_and_bounded_by_what_they_hold(server):
    with server.channel(compression=grpc.Compression.Gzip) as channel:
        feeds = server.feeds(channel)
        assert upload(feeds, batch("s", readings(2_000))).stored == 2_000
        record = record_pb2.Record(key="k", reading=record_pb2.Reading(text="x" * 4_000))
        with pytest.raises(grpc.RpcError) as failed:
            upload(feeds, batch("s", [record] * 5_000))
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(stored(feeds, "s").records) == 2_000


def test_many_small_messages_do_not_end_the_connection(feeds):
    """One reading of 40 bytes per message, as fast as they go: what a simple device does."""

    def one_by_one():
        for i in range(SMALL_MESSAGES):
            record = reading("plant-7.line-2.temp", float(i), event_time_unix_nanos=i + 1)
            yield batch("sensors", [record], "pi17", i + 1)

    assert len(reading("plant-7.line-2.temp", 1.0, event_time_unix_nanos=1).SerializeToString()) == 41
    summary = feeds.Ingest(one_by_one(), timeout=CALL_SECONDS)
    assert (summary.stored, summary.refused) == (SMALL_MESSAGES, 0)
    assert summary.feeds[0].durable_sequence == SMALL_MESSAGES
    read = stored(feeds, "sensors")
    assert read.numbers == [float(i) for i in range(SMALL_MESSAGES)]


def test_what_was_received_can_be_sent_again(feeds):
    """Fields of the server are cut from what it is sent."""
    upload(feeds, batch("one", readings(5)))
    received = stored(feeds, "one").records
    summary = upload(feeds, batch("two", list(reversed(received))))
    assert (summary.stored, summary.refused) == (5, 0)
    copied = stored(feeds, "two")
    assert copied.offsets == [0, 1, 2, 3, 4]
    assert copied.numbers == [4.0, 3.0, 2.0, 1.0, 0.0]


class Device:
    """Publishes with the generated stub: says hello, then sends what it is told to."""

    def __init__(self, feeds, feed, producer, instance, **hello):
        self.outbox = queue.SimpleQueue()
        hello = feed_pb2.PublishHello(feed=feed, producer=producer, instance=instance, **hello)
        self.outbox.put(feed_pb2.PublishRequest(hello=hello))
        self.answers = feeds.Publish(iter(self.outbox.get, None), timeout=CALL_SECONDS)
        self.welcome = next(self.answers).welcome
        self.credit = self.welcome.credit_bytes
        # Absent, and never 0, when the server does not know the producer.
        known = self.welcome.HasField("next_sequence")
        self.next = self.welcome.next_sequence if known else 1

    def send(self, records):
        batch = feed_pb2.PublishBatch(first_sequence=self.next, records=records)
        request = feed_pb2.PublishRequest(batch=batch)
        while request.ByteSize() > self.credit:
            self.take()
        self.credit -= request.ByteSize()
        self.next += len(records)
        self.outbox.put(request)

    def take(self):
        """The next answer; credit is added up."""
        answer = next(self.answers)
        kind = answer.WhichOneof("event")
        if kind == "credit":
            self.credit += answer.credit.bytes
        return getattr(answer, kind)

    def ack(self):
        while not isinstance(ack := self.take(), feed_pb2.PublishAck):
            pass
        return ack

    def close(self):
        self.outbox.put(None)
        for answer in self.answers:
            assert answer.WhichOneof("event") == "credit"


def test_a_device_publishes_is_cut_and_goes_on_by_its_hello(feeds):
    device = Device(feeds, "sensors", "pi17", b"one")
    device.send(readings(3))
    ack = device.ack()
    assert (ack.stored, ack.duplicates, ack.sequence) == (3, 0, 3)
    assert (getattr(ack.offsets, "from"), ack.offsets.to) == (0, 3)
    device.send(readings(2, first=3))
    device.answers.cancel()

    device = Device(feeds, "sensors", "pi17", b"one")
    assert device.next in (4, 6), "the batch that was cut is stored, or it is not"
    device.send(readings(10, first=device.next - 1))
    assert device.ack().stored == 10
    device.close()
    total = device.next - 1
    assert stored(feeds, "sensors").numbers == [float(i) for i in range(total)]


def test_many_small_batches_are_acknowledged_while_the_device_does_not_read(feeds):
    """As many as the credit allows before the first ack is read, as small devices may do."""
    device, sent = Device(feeds, "sensors", "pi17", b"one"), 0
    size = feed_pb2.PublishRequest(
        batch=feed_pb2.PublishBatch(first_sequence=10_000, records=readings(1))
    ).ByteSize()
    while device.credit > 2 * size:
        device.send(readings(1, first=sent))
        sent += 1
    assert sent > 10_000
    for _ in range(sent):
        ack = device.ack()
        assert (ack.stored, ack.refused) == (1, 0)
    assert ack.sequence == sent
    device.close()


def test_a_second_device_with_the_same_name_fences_the_first(feeds):
    first = Device(feeds, "sensors", "pi17", b"one")
    second = Device(feeds, "sensors", "pi17", b"two")
    with pytest.raises(grpc.RpcError) as failed:
        first.ack()
    assert failed.value.code() == grpc.StatusCode.ABORTED
    info = unpack(failed.value, error_details_pb2.ErrorInfo)
    assert info.reason == "PRODUCER_FENCED" and "another device" in failed.value.details()
    second.send(readings(1))
    assert second.ack().stored == 1
    second.close()


def test_a_device_that_is_gone_leaves_its_will(feeds):
    will = feed_pb2.Will(key="pi17", status=record_pb2.Status(state="offline", reason="no power"))
    device = Device(feeds, "plant", "pi17", b"one", will=will)
    follow = subscribe(feeds, selector("plant"))
    device.answers.cancel()
    states = (r for s in follow for r in s.records.records if r.HasField("status"))
    gone = next(states)
    assert (gone.key, gone.status.state, gone.status.reason) == ("pi17", "offline", "no power")
    back = Device(feeds, "plant", "pi17", b"two", will=will)
    assert next(states).status.state == "online"
    back.answers.cancel()
    follow.cancel()
