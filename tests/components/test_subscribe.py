"""Subscriptions by stock grpcio: live, resumed, stalled, overtaken by retention."""

import decimal
import threading
import time

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from harness import (
    Account, CALL_SECONDS, TORTURE, Server, at_offset, batch, now, reading, readings, selector, stored,
    subscribe, unpack, upload,
)
from ringfeed.v1 import catalog_pb2, feed_pb2, record_pb2

STALL_SECONDS = 60 if TORTURE else 5


def follow(call, until):
    account = Account()
    for response in call:
        account.take(response)
        if until(account):
            call.cancel()
            break
    return account


def test_a_subscriber_gets_what_is_stored_and_then_what_comes(feeds):
    upload(feeds, batch("sensors", readings(3)))
    call = subscribe(feeds, selector("sensors"))
    account = Account(0)
    while account.take(next(call)) != "caught_up":
        pass
    assert account.numbers == [0.0, 1.0, 2.0]
    upload(feeds, batch("sensors", readings(2, first=3)))
    while len(account.records) < 5:
        account.take(next(call))
    assert account.numbers == [0.0, 1.0, 2.0, 3.0, 4.0]
    call.cancel()


def test_a_subscriber_goes_on_where_it_was(feeds):
    """By the offset it kept, by cursor, and by the opaque token; no record twice, none left out."""
    upload(feeds, batch("sensors", readings(10)))
    first = follow(subscribe(feeds, selector("sensors")), lambda seen: seen.token)
    assert first.next == 10 and first.token
    upload(feeds, batch("sensors", readings(10, first=10)))
    by_offset = stored(feeds, "sensors", at_offset(first.next))
    assert by_offset.offsets == list(range(10, 20))
    request = feed_pb2.SubscribeRequest(resume_token=first.token)
    by_token = follow(
        feeds.Subscribe(request, timeout=CALL_SECONDS), lambda seen: len(seen.records) == 10
    )
    assert by_token.offsets == list(range(10, 20))


def test_only_the_keys_wanted_come_and_every_offset_is_accounted_for(feeds):
    both = [reading("a" if i % 2 else "b", float(i)) for i in range(100)]
    upload(feeds, batch("sensors", both))
    account = Account(0)
    for response in subscribe(feeds, selector("sensors", keys=["a"], end=now())):
        account.take(response)
    assert account.offsets == list(range(1, 100, 2))
    assert account.next == 100


def test_two_feeds_come_on_one_stream_each_in_order(feeds):
    for feed in ("one", "two"):
        upload(feeds, batch(feed, readings(50)))
    accounts = {0: Account(0), 1: Account(0)}
    for response in subscribe(feeds, selector("one", end=now()), selector("two", end=now())):
        accounts[response.selector].take(response)
    assert all(account.offsets == list(range(50)) for account in accounts.values())


def test_what_retention_took_arrives_as_a_gap(feeds, catalog):
    small = catalog_pb2.Retention(max_bytes=1 << 20)
    catalog.CreateFeed(catalog_pb2.CreateFeedRequest(name="ticks", retention=small))
    text = "x" * 1_000
    for first in range(0, 4_000, 500):
        record = record_pb2.Record(key="k", reading=record_pb2.Reading(text=text))
        upload(feeds, batch("ticks", [record] * 500))
    account = stored(feeds, "ticks", at_offset(0))
    assert len(account.gaps) == 1 and account.kinds[0] == "gap"
    gap = account.gaps[0]
    assert gap.reason == feed_pb2.GAP_REASON_EVICTED
    assert (getattr(gap, "from"), gap.to) == (0, account.offsets[0])
    assert gap.oldest.offset == account.offsets[0]
    assert account.next == 4_000


def test_a_subscriber_that_stalls_gets_everything(feeds, server):
    """Small records keep flowing while it reads nothing: one frame for each would end it."""
    upload(feeds, batch("sensors", readings(1)))
    call = subscribe(feeds, selector("sensors"))
    account = Account(0)
    account.take(next(call))
    stop, sent = threading.Event(), [1]

    def trickle():
        with server.channel() as channel:
            def messages():
                while not stop.is_set():
                    yield batch("sensors", readings(1, first=sent[0]))
                    sent[0] += 1
                    time.sleep(0.001)
            server.feeds(channel).Ingest(messages(), timeout=CALL_SECONDS)

    sender = threading.Thread(target=trickle)
    sender.start()
    time.sleep(STALL_SECONDS)
    stop.set()
    sender.join()
    assert sent[0] > 1_000
    while len(account.records) < sent[0]:
        account.take(next(call))
    assert account.numbers == [float(i) for i in range(sent[0])]
    assert not account.gaps
    call.cancel()


def test_heartbeats_tell_the_lag(feeds):
    upload(feeds, batch("sensors", readings(7)))
    call = subscribe(
        feeds, selector("sensors"), heartbeat_interval=duration_pb2.Duration(nanos=100_000_000)
    )
    beat = next(r.heartbeat for r in call if r.WhichOneof("event") == "heartbeat")
    assert (beat.oldest.offset, beat.next.offset, beat.cursor.offset) == (0, 7, 7)
    assert beat.lag_records == 0 and beat.resume_token
    call.cancel()


def test_a_subscriber_that_left_is_not_listed_any_more(feeds, catalog):
    upload(feeds, batch("sensors", readings(1)))
    call = subscribe(feeds, selector("sensors"), subscriber="dash")
    next(call)
    listed = lambda: catalog.ListSubscribers(catalog_pb2.ListSubscribersRequest()).subscribers
    assert [(each.name, each.feed) for each in listed()] == [("dash", "sensors")]
    call.cancel()
    deadline = time.monotonic() + CALL_SECONDS
    while listed():
        assert time.monotonic() < deadline


def test_small_answers_are_filled_up(feeds, channel):
    """What the comment of the padding field promises to stock HTTP/2 stacks."""
    upload(feeds, batch("sensors", readings(1)))
    on_the_wire = channel.unary_stream(
        "/ringfeed.v1.FeedService/Subscribe",
        request_serializer=feed_pb2.SubscribeRequest.SerializeToString,
    )
    request = feed_pb2.SubscribeRequest(selectors=[selector("sensors", end=now())])
    answers = list(on_the_wire(request, timeout=CALL_SECONDS))
    assert answers and all(len(answer) >= 256 for answer in answers)


def test_a_decimal_comes_out_as_it_went_in(feeds):
    """Read and written as the comment in record.proto says."""
    texts = [
        "0.10000000", "-0.00", "21.50", "-37.63", "0.0000000000000000000000000001",
        "9223372036854775807", "9223372036854775808", "-9223372036854775809",
        "79228162514264337593543950335", "-7922816251426433759354395.0335",
    ]
    records = [
        record_pb2.Record(key="XYZ", trade=record_pb2.Trade(price=to_wire(text))) for text in texts
    ]
    assert upload(feeds, batch("ticks", records)).stored == len(texts)
    read = [from_wire(record.trade.price) for record in stored(feeds, "ticks").records]
    # A zero has no sign on the wire.
    assert read == [text.replace("-0.00", "0.00") for text in texts]


def from_wire(d):
    with decimal.localcontext(decimal.Context(prec=29)):
        return f"{decimal.Decimal((d.high << 64) + d.units).scaleb(-d.scale):f}"


def to_wire(text):
    sign, digits, exponent = decimal.Decimal(text).as_tuple()
    whole = int("".join(map(str, digits))) * (-1 if sign else 1)
    units = (whole + 2**63) % 2**64 - 2**63
    return record_pb2.Decimal(units=units, scale=-exponent, high=(whole - units) >> 64)


def test_the_last_record_of_each_key(feeds):
    old = reading("a", 1.0, event_time_unix_nanos=1_000)
    new = reading("a", 2.0, event_time_unix_nanos=2_000)
    upload(feeds, batch("sensors", [new, old, reading("b", 3.0)]))
    def latest(by):
        answer = feeds.GetLatest(feed_pb2.GetLatestRequest(feed="sensors", by=by))
        return [(record.key, record.reading.number) for record in answer.records]
    assert latest(feed_pb2.LATEST_BY_EVENT_TIME) == [("a", 2.0), ("b", 3.0)]
    assert latest(feed_pb2.LATEST_BY_ARRIVAL) == [("a", 1.0), ("b", 3.0)]


def test_a_feed_nobody_made_is_not_found(feeds):
    with pytest.raises(grpc.RpcError) as failed:
        list(subscribe(feeds, selector("nope")))
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND
    assert unpack(failed.value, error_details_pb2.ErrorInfo).reason == "UNKNOWN_FEED"


def test_a_token_of_another_server_is_refused(feeds, tmp_path):
    upload(feeds, batch("sensors", readings(1)))
    token = follow(subscribe(feeds, selector("sensors")), lambda seen: seen.token).token
    with Server(tmp_path / "other") as other, other.channel() as channel:
        request = feed_pb2.SubscribeRequest(resume_token=token)
        with pytest.raises(grpc.RpcError) as failed:
            list(other.feeds(channel).Subscribe(request, timeout=CALL_SECONDS))
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
