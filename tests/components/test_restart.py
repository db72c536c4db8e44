"""Stops, orderly and not: what was acknowledged is there, and clients go on where they were."""

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import (
    Account, CALL_SECONDS, TORTURE, Server, at_offset, batch, readings, selector, stored, subscribe, upload,
)
from ringfeed.v1 import catalog_pb2, feed_pb2


def test_what_was_acknowledged_survives_kill_9(server):
    with server.channel() as channel:
        feeds = server.feeds(channel)
        upload(feeds, batch("sensors", readings(500), "pi17", 1))
        before = stored(feeds, "sensors")
    server.kill()
    server.start()
    with server.channel() as channel:
        feeds, catalog = server.feeds(channel), server.catalog(channel)
        after = stored(feeds, "sensors")
        assert [r.SerializeToString() for r in after.records] == [
            r.SerializeToString() for r in before.records
        ]
        known = catalog_pb2.GetProducerRequest(feed="sensors", producer="pi17")
        assert catalog.GetProducer(known).producer.durable_sequence == 500
        again = upload(feeds, batch("sensors", readings(501), "pi17", 1))
        assert (again.duplicates, again.stored) == (500, 1)
        assert stored(feeds, "sensors", at_offset(499)).offsets == [499, 500]


def test_kill_9_in_the_middle_of_an_upload_loses_nothing_acknowledged(server):
    """Rounds on one data directory; the device sends again from the start each time.
    What GetProducer called durable counts as acknowledged: a device frees its spool by it."""
    rounds = 30 if TORTURE else 3
    total = rounds * 2_000 + 14_000
    for round_number in range(rounds):
        with server.channel() as channel:
            feeds, catalog = server.feeds(channel), server.catalog(channel)
            cut = threading.Event()

            def messages():
                for first in range(0, total, 20):
                    yield batch("sensors", readings(20, first=first), "pi17", first + 1)
                # It is still open when the server dies, however fast it went.
                cut.wait(CALL_SECONDS)

            call = feeds.Ingest.future(messages(), timeout=CALL_SECONDS)
            durable = wait_for(catalog, (round_number + 1) * 2_000)
            server.kill()
            cut.set()
            assert call.exception() is not None
        server.start()
        with server.channel() as channel:
            account = stored(server.feeds(channel), "sensors")
        assert len(account.records) >= durable
        assert account.numbers == [float(i) for i in range(len(account.records))]


def wait_for(catalog, durable):
    known = catalog_pb2.GetProducerRequest(feed="sensors", producer="pi17")
    while True:
        try:
            reached = catalog.GetProducer(known).producer.durable_sequence
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            continue
        if reached >= durable:
            return reached


def test_sigterm_ends_streams_with_a_token_that_goes_on_after_the_restart(server):
    with server.channel() as channel:
        feeds = server.feeds(channel)
        upload(feeds, batch("sensors", readings(5)))
        call = subscribe(feeds, selector("sensors"))
        account = Account(0)
        while account.take(next(call)) != "caught_up":
            pass
        stopped = threading.Thread(target=server.terminate)
        stopped.start()
        kinds = [account.take(response) for response in call]
        stopped.join()
    assert kinds == ["reconnect"] and server.process.returncode == 0
    server.start()
    with server.channel() as channel:
        feeds = server.feeds(channel)
        upload(feeds, batch("sensors", readings(5, first=5)))
        request = feed_pb2.SubscribeRequest(resume_token=account.token)
        call = feeds.Subscribe(request, timeout=CALL_SECONDS)
        while len(account.records) < 10:
            account.take(next(call))
        call.cancel()
    assert account.numbers == [float(i) for i in range(10)]


def test_health_answers_for_the_services(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "ringfeed.v1.FeedService", "ringfeed.v1.CatalogService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as failed:
        health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_is_told_before_the_server_stops(server):
    with server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="ringfeed.v1.FeedService"), timeout=CALL_SECONDS
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stopped = threading.Thread(target=server.terminate)
        stopped.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        stopped.join()
    assert server.process.returncode == 0


def test_a_second_server_on_one_directory_is_refused(server):
    with pytest.raises(AssertionError, match="before it served"):
        Server(server.data_dir).start()


@pytest.mark.parametrize(
    "given, missing", [([], "--plaintext"), (["--plaintext"], "--anonymous")]
)
def test_beyond_loopback_both_flags_are_needed(tmp_path, given, missing):
    with pytest.raises(AssertionError, match=f"allow it with {missing}"):
        Server(tmp_path / "data", *given, listen="0.0.0.0:0").start()
