"""Each alert fires in the scenario made for it, in a real Prometheus that scrapes a real server.
What a rule waits for is made shorter here; with the durations it has, promtool tries it
(grafana/rules.test.yml)."""

import contextlib
import http.client
import itertools
import pathlib
import queue
import re
import shutil
import struct
import subprocess

import grpc
import pytest
from google.protobuf import duration_pb2
from harness import (
    BINARY,
    CALL_SECONDS,
    MIB,
    Server,
    batch,
    create_small,
    details,
    fill,
    reading,
    readings,
    selector,
    subscribe,
    upload,
)
from prometheus import Prometheus, rules
from ringfeed.v1 import catalog_pb2, feed_pb2

# Silence counts from three seconds on, whatever is usual; every flush is slow.
SHORTER = {
    "RingfeedIngestStalled": {"> 120": "> 3", "10 * min_over_time": "0.0001 * min_over_time"},
    "RingfeedFeedSilent": {"> 600": "> 3", "10 * min_over_time": "0.0001 * min_over_time"},
    "RingfeedFlushSlow": {"> 0.5": "> 0"},
}
# The disk of one server, and what has to stay free of it.
DISK, RESERVE = 96 * MIB, 4 * MIB


class Watched:
    """A server that Prometheus scrapes, and clients of it."""

    def __init__(self, server, prometheus, channel):
        self.server, self.prometheus = server, prometheus
        self.feeds, self.catalog = server.feeds(channel), server.catalog(channel)

    def firing(self):
        return {labels["alertname"] for labels in self.prometheus.firing(self.server.metrics)}

    def until_fires(self, alert, meanwhile=lambda: None, **labels):
        def fires():
            wanted = {"alertname": alert, **labels}.items()
            return any(
                wanted <= found.items() for found in self.prometheus.firing(self.server.metrics)
            )

        self.prometheus.until(f"{alert} {labels}", fires, meanwhile)

    def until_shown(self, query, meanwhile=lambda: None):
        self.prometheus.until(query, lambda: self.prometheus.query(query), meanwhile)

    def expect(self, feed, seconds, **scope):
        """Describes keys as silent for no longer than that."""
        interval = duration_pb2.Duration(seconds=seconds)
        info = catalog_pb2.KeyInfo(expected_interval=interval)
        self.catalog.SetKeyInfo(catalog_pb2.SetKeyInfoRequest(feed=feed, info=info, **scope))


@contextlib.contextmanager
def watch(directory, *settings, shorter=None):
    """Servers, each with its settings, and one Prometheus for all."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(Server(directory / f"data{n}", **setting))
            for n, setting in enumerate(settings)
        ]
        addresses = [server.metrics for server in servers]
        prometheus = Prometheus(directory / "prometheus", *addresses, shorter=shorter)
        stack.enter_context(prometheus)
        channels = [stack.enter_context(server.channel()) for server in servers]
        yield [Watched(server, prometheus, c) for server, c in zip(servers, channels)]


@contextlib.contextmanager
def small_disk(path):
    """A file system of its own; answers whether there could be one."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", path]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            # Lazily: the server may still be on its way out.
            subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One server for most scenarios, one with a small disk, one that wants tokens and is killed."""
    directory = tmp_path_factory.mktemp("watched")
    create = [BINARY, "token", "create", "--file", directory / "tokens.toml"]
    kept = ["--output", directory / "pi17.token"]
    subprocess.run([*create, "--principal", "pi17", "--scope", "*:*", *kept], check=True)
    wary = {"RINGFEED_AUTH__TOKEN_FILE": str(directory / "tokens.toml")}
    tight = {"RINGFEED_STORE__RESERVE_BYTES": f"{RESERVE}B"}
    with small_disk(directory / "data1") as small:
        with watch(directory, {}, tight, wary, shorter=SHORTER) as servers:
            servers[2].token = (directory / "pi17.token").read_text().strip()
            yield servers if small else [servers[0], None, servers[2]]


@pytest.fixture(scope="module")
def busy(watched):
    return watched[0]


def test_a_server_at_work_fires_nothing(tmp_path):
    """Among it a producer and a subscriber that are connected, and a key with an interval."""
    with watch(tmp_path, {}) as [calm]:
        upload(calm.feeds, batch("plant", readings(5)))
        calm.expect("plant", 60, key="pi17.temp")
        outbox = queue.SimpleQueue()
        call = calm.feeds.Ingest.future(iter(outbox.get, None), timeout=CALL_SECONDS)
        follow = subscribe(calm.feeds, selector("plant"))
        sequence = itertools.count(1)

        def work():
            outbox.put(batch("plant", readings(1), "pi17", next(sequence)))
            while next(follow).WhichOneof("event") != "records":
                pass

        seen = "ringfeed_subscribers == 1 and ringfeed_producers_connected == 1"
        calm.until_shown(f"({seen}) and on () count_over_time(up[1m]) >= 8", work)
        assert calm.firing() == set()
        outbox.put(None)
        assert call.result().stored == next(sequence) - 1


def test_producers_that_stall_and_feeds_that_fall_silent(busy):
    outbox = queue.SimpleQueue()
    call = busy.feeds.Ingest.future(iter(outbox.get, None), timeout=CALL_SECONDS)
    sequence = itertools.count(1)

    def work():
        outbox.put(batch("stalls", readings(1), "pi17", next(sequence)))
        upload(busy.feeds, batch("falls.silent", readings(1)))

    usual = 'feed:ringfeed_append_interval:seconds{feed=~"stalls|falls.silent"}'
    busy.until_shown(f"count({usual}) == 2", work)
    busy.until_fires("RingfeedIngestStalled", feed="stalls")
    busy.until_fires("RingfeedFeedSilent", feed="falls.silent")
    outbox.put(None)
    call.result()


def test_a_sensor_that_falls_silent(busy):
    upload(busy.feeds, batch("plant", [*readings(1, "roof.wind"), *readings(1, "roof.temp")]))
    busy.expect("plant", 1, glob="roof.*")

    def one_goes_on():
        upload(busy.feeds, batch("plant", readings(1, "roof.temp")))

    busy.until_fires("RingfeedKeysStale", one_goes_on, feed="plant")
    busy.until_shown('ringfeed_keys_stale{feed="plant"} == 1', one_goes_on)


def test_a_subscriber_that_eviction_overtakes(busy):
    create_small(busy.catalog, "tiny")
    fill(busy.feeds, "tiny", megabytes=1)
    stuck = subscribe(busy.feeds, selector("tiny"))
    next(stuck)

    def work():
        fill(busy.feeds, "tiny")

    busy.until_fires("RingfeedSubscriberLosesRecordsSoon", work, feed="tiny")
    busy.until_fires("RingfeedSubscriberStalled", work, feed="tiny")
    while next(stuck).WhichOneof("event") != "gap":
        pass
    busy.until_fires("RingfeedGaps", feed="tiny", reason="evicted")


def test_records_that_are_refused_and_flushes_that_take_too_long(busy):
    def work():
        upload(busy.feeds, batch("plant", [reading("", 1.0), *readings(1)]))

    busy.until_fires("RingfeedRecordsRefused", work, feed="plant", reason="MISSING")
    busy.until_fires("RingfeedFlushSlow", work)


def test_a_disk_that_fills(watched):
    tight = watched[1]
    if tight is None:
        pytest.skip("a small file system cannot be mounted here")
    tight.until_fires("RingfeedDiskNearlyFull")
    assert "RingfeedDiskFull" not in tight.firing()
    create_small(tight.catalog, "plant")
    fill(tight.feeds, "plant")
    ballast = tight.server.data_dir / "ballast"
    left = shutil.disk_usage(tight.server.data_dir).free
    ballast.write_bytes(bytes(left - RESERVE + MIB))
    with pytest.raises(grpc.RpcError) as refused:
        # It looks at the disk once in so many bytes.
        fill(tight.feeds, "plant", megabytes=16)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.QuotaFailure" in details(refused.value)
    tight.until_fires("RingfeedDiskFull")
    tight.until_fires("RingfeedUploadsRefused", feed="plant", reason="DISK_FULL")


def test_callers_that_are_turned_away(watched):
    wary = watched[2]

    def calls_without_a_token():
        with pytest.raises(grpc.RpcError) as refused:
            upload(wary.feeds, batch("plant", readings(1)))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED

    wary.until_fires("RingfeedAuthFailures", calls_without_a_token, code="UNAUTHENTICATED")


def test_calls_that_fail_at_the_server(watched):
    """They run out of the time that they give it. Their client waits, so that the server says so."""
    wary = watched[2]
    follow = feed_pb2.SubscribeRequest(selectors=[selector("plant")]).SerializeToString()
    headers = {
        "authorization": f"Bearer {wary.token}",
        "content-type": "application/grpc-web+proto",
        "grpc-timeout": "50m",
    }
    metadata = [("authorization", f"Bearer {wary.token}")]
    wary.feeds.Ingest(iter([batch("plant", readings(1))]), metadata=metadata, timeout=CALL_SECONDS)

    def runs_out_of_time():
        connection = http.client.HTTPConnection(wary.server.address, timeout=CALL_SECONDS)
        body = struct.pack(">BI", 0, len(follow)) + follow
        connection.request("POST", "/ringfeed.v1.FeedService/Subscribe", body, headers)
        assert b"grpc-status:4" in connection.getresponse().read()
        connection.close()

    wary.until_fires("RingfeedErrorRate", runs_out_of_time)


def test_a_server_that_is_killed(watched):
    doomed = watched[2]
    assert "RingfeedDown" not in doomed.firing()
    doomed.server.kill()
    doomed.until_fires("RingfeedDown")


def test_each_alert_has_a_scenario():
    here = pathlib.Path(__file__).read_text()
    tried = set(re.findall(r'until_fires\("(\w+)"', here))
    assert tried == {rule["alert"] for rule in rules("alerts.yml")}
