"""The real server as a process, and the few lines every test needs to talk to it."""

import json
import os
import pathlib
import queue
import signal
import subprocess
import threading

import grpc
from grpc_status import rpc_status
from ringfeed.v1 import catalog_pb2, catalog_pb2_grpc, feed_pb2, feed_pb2_grpc, record_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "ringfeed"
START_SECONDS = 30
# The long forms: `make torture`.
TORTURE = os.environ.get("TEST_TORTURE") == "1"
# No call of a test may take longer; a hang is a failure, not a wait.
CALL_SECONDS = 600 if TORTURE else 120
MIB = 1 << 20


class Server:
    """`ringfeed serve` on free ports of loopback. Ended by its pid when the block ends."""

    def __init__(self, data_dir, *flags, listen="127.0.0.1:0", **environment):
        self.data_dir = pathlib.Path(data_dir)
        self.listen = listen
        self.flags = flags
        self.environment = environment
        self.process = None
        self.log = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        assert BINARY.exists(), f"{BINARY} is missing: cargo build --release"
        ports = ["--listen", self.listen, "--metrics-listen", "127.0.0.1:0"]
        command = [BINARY, "serve", *ports, "--data-dir", self.data_dir, *self.flags]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGFEED_")}
        environment = clean | {"RINGFEED_LOG__FORMAT": "json"} | self.environment
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment, text=True
        )
        lines = queue.Queue()
        threading.Thread(target=self._read_log, args=(lines,), daemon=True).start()
        serving = self._serving(lines)
        self.address, self.metrics = serving["address"], serving["metrics"]

    def _read_log(self, lines):
        for line in self.process.stderr:
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def _serving(self, lines):
        while (line := lines.get(timeout=START_SECONDS)) is not None:
            fields = json.loads(line).get("fields", {}) if line.startswith("{") else {}
            if fields.get("message") == "serving":
                return fields
        raise AssertionError("the server ended before it served: " + "".join(self.log))

    def kill(self):
        """As a power switch would: SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """As an operator would: SIGTERM. Answers its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def channel(self, **options):
        return grpc.insecure_channel(self.address, **options)

    def feeds(self, channel):
        return feed_pb2_grpc.FeedServiceStub(channel)

    def catalog(self, channel):
        return catalog_pb2_grpc.CatalogServiceStub(channel)


def reading(key, number, **fields):
    value = record_pb2.Reading(number=number)
    return record_pb2.Record(key=key, reading=value, **fields)


def readings(count, key="pi17.temp", first=0):
    return [reading(key, float(first + i)) for i in range(count)]


def create_small(catalog, feed):
    """A feed with the smallest ring."""
    retention = catalog_pb2.Retention(max_bytes=MIB)
    catalog.CreateFeed(catalog_pb2.CreateFeedRequest(name=feed, retention=retention))


def fill(feeds, feed, megabytes=2):
    """Writes so many megabytes and a bit: two are more than the smallest ring holds."""
    value = record_pb2.Reading(vector=record_pb2.Vector(values=[1.0] * 1_000))
    records = [record_pb2.Record(key=f"wave{n}", reading=value) for n in range(63)]
    summary = upload(feeds, *[batch(feed, records) for _ in range(2 * megabytes)])
    assert summary.refused == 0


def batch(feed, records, producer="", first_sequence=0, mode=0):
    return feed_pb2.IngestRequest(
        feed=feed, producer=producer, first_sequence=first_sequence, mode=mode, records=records
    )


def upload(feeds, *messages):
    return feeds.Ingest(iter(messages), timeout=CALL_SECONDS)


def selector(feed, start=None, **fields):
    start = start or feed_pb2.Start(earliest=feed_pb2.Earliest())
    return feed_pb2.Selector(feed=feed, start=start, **fields)


def at_offset(offset):
    return feed_pb2.Start(offset=offset)


def now():
    return feed_pb2.End(now=feed_pb2.Now())


def subscribe(feeds, *selectors, **fields):
    request = feed_pb2.SubscribeRequest(selectors=selectors, **fields)
    return feeds.Subscribe(request, timeout=CALL_SECONDS)


def stored(feeds, feed, start=None):
    """Everything readable in a feed now; refuses a hole nobody told about."""
    account = Account(start.offset if start else 0)
    for response in subscribe(feeds, selector(feed, start, end=now())):
        account.take(response)
    return account


class Account:
    """What a subscription settled: every offset is delivered or in a gap, once, in order."""

    def __init__(self, next_offset=None):
        self.next = next_offset
        self.records = []
        self.gaps = []
        self.kinds = []
        self.token = ""

    def take(self, response):
        kind = response.WhichOneof("event")
        self.kinds.append(kind)
        event = getattr(response, kind)
        if kind == "records":
            assert event.count == len(event.records)
            self._settle(event.covers)
            self.records.extend(event.records)
        elif kind == "gap":
            self._settle(getattr(event, "from"), event.to)
            self.gaps.append(event)
        elif kind in ("caught_up", "heartbeat", "reconnect"):
            self.token = event.resume_token or self.token
        return kind

    def _settle(self, span, to=None):
        start = span if to is not None else getattr(span, "from")
        end = to if to is not None else span.to
        assert self.next in (None, start), f"expected {self.next}, got {start}: a silent hole"
        self.next = end

    @property
    def offsets(self):
        return [record.offset for record in self.records]

    @property
    def numbers(self):
        return [record.reading.number for record in self.records]


def details(error):
    """The messages in the details of a failed call, by their type."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    return {detail.TypeName(): detail for detail in status.details}


def unpack(error, kind):
    message = kind()
    assert details(error)[kind.DESCRIPTOR.full_name].Unpack(message)
    return message
