"""Feeds without protobuf: JSON and server-sent events, with curl and plain HTTP."""

import collections
import csv
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from harness import BINARY, MIB, ROOT, Server, batch, create_small, fill, reading, readings, upload
from ringfeed.v1 import record_pb2
from sse import Account, Events

STOCKS = ROOT / "fixtures" / "market_us_stocks_daily.csv"
SECONDS = 60


def get(server, path, **headers):
    """Status, headers and body of an answer, which is complete or an error here."""
    connection = http.client.HTTPConnection(server.address, timeout=SECONDS)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(body)


def found(server, path, **headers):
    status, answered, body = get(server, path, **headers)
    assert status == 200, body
    assert answered["content-type"] == "application/json" and answered["x-request-id"]
    assert answered["cache-control"] == "no-store"
    return body


def refused(server, path, **headers):
    status, answered, body = get(server, path, **headers)
    assert answered["content-type"] == "application/json"
    return status, answered, body["error"]


class Curl:
    """`curl -N` on a live feed."""

    def __init__(self, server, path, *flags):
        url = f"http://{server.address}{path}"
        self.process = subprocess.Popen(
            ["curl", "-sSN", "--fail-with-body", *flags, url], stdout=subprocess.PIPE
        )
        self.events = Events()
        self.timer = threading.Timer(SECONDS, self.process.kill)
        self.timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()

    def __iter__(self):
        while piece := os.read(self.process.stdout.fileno(), 1 << 16):
            yield from self.events.feed(piece)

    def until(self, account, enough):
        for event in self:
            account.take(*event)
            if enough(account):
                return
        raise AssertionError(f"curl ended first: {account.names[-5:]} at {account.next}")


@pytest.fixture
def stocks(server):
    environment = os.environ | {"RINGFEED_ENDPOINT": f"http://{server.address}"}
    command = [BINARY, "ingest", "prices", "--file", STOCKS]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return server


def rows():
    """The file's rows by stock, in order of their day."""
    by_stock = collections.defaultdict(list)
    with STOCKS.open() as file:
        for row in csv.DictReader(file):
            by_stock[row["Ticker"]].append({name.lower(): text for name, text in row.items()})
    return by_stock


def began(row):
    """When the day of a row began where it was traded."""
    day = datetime.fromisoformat(row["date"]).replace(tzinfo=ZoneInfo("America/New_York"))
    return day.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")


def test_the_latest_values_are_those_of_the_file(stocks):
    body = found(stocks, "/v1/feeds/prices/latest")
    assert (body["feed"], body["as_of"]) == ("prices", found(stocks, "/v1/feeds/prices")["next"])
    told = {record["key"]: record["bar"] for record in body["records"]}
    assert told.keys() == rows().keys()
    for key, bars in rows().items():
        last = bars[-1]
        assert told[key]["start"] == began(last)
        for figure in ("open", "high", "low", "close", "volume"):
            assert told[key][figure] == last[figure], (key, figure)
    some = found(stocks, "/v1/feeds/prices/latest?key=AAPL&key=G*&not_key=GE*")
    assert {record["key"] for record in some["records"]} == {
        key for key in rows() if key == "AAPL" or key == "GOOG"
    }


def test_feeds_and_keys_are_listed(stocks):
    (feed,) = found(stocks, "/v1/feeds")["feeds"]
    count = sum(len(bars) for bars in rows().values())
    assert (feed["name"], feed["oldest"], feed["next"]) == ("prices", "0", str(count))
    assert feed["keys"] == str(len(rows())) and feed["visibility"] == "durable"
    first = found(stocks, "/v1/feeds/prices/keys?page_size=2")
    assert len(first["keys"]) == 2 and first["keys"][0]["kinds"] == ["bar"]
    rest = found(stocks, f"/v1/feeds/prices/keys?page_token={first['next_page_token']}")
    assert "next_page_token" not in rest
    listed = [key["key"] for key in first["keys"] + rest["keys"]]
    assert listed == sorted(rows())
    assert first["keys"][0]["info"]["currency"] == "USD"


def test_bars_are_made_of_what_the_ring_has(stocks):
    body = found(stocks, "/v1/feeds/prices/bars?key=AAPL&interval=30d")
    whole = rows()["AAPL"]
    assert [bar["key"] for bar in body["bars"]] == ["AAPL"] * len(body["bars"])
    starts = [bar["bar"]["start"] for bar in body["bars"]]
    assert starts == sorted(set(starts)) and len(starts) > 50
    made = [bar["bar"] for bar in body["bars"]]
    by_start = collections.defaultdict(list)
    for row in whole:
        by_start[max(start for start in starts if start <= began(row))].append(row)
    for bar in made:
        days = by_start[bar["start"]]
        assert bar["open"] == days[0]["open"] and bar["close"] == days[-1]["close"]
        assert Decimal(bar["high"]) == max(Decimal(day["high"]) for day in days)
        assert Decimal(bar["low"]) == min(Decimal(day["low"]) for day in days)
        assert Decimal(bar["volume"]) == sum(Decimal(day["volume"]) for day in days)
    middle = starts[len(starts) // 2]
    path = f"/v1/feeds/prices/bars?key=AAPL&interval=30d&from={middle}"
    assert [bar["bar"] for bar in found(stocks, path)["bars"]] == made[len(made) // 2 :]
    path = f"/v1/feeds/prices/bars?key=AAPL&interval=30d&to={middle}"
    assert [bar["bar"] for bar in found(stocks, path)["bars"]] == made[: len(made) // 2]


def test_a_late_reading_changes_its_bar_and_does_not_make_another(server, feeds):
    second = 1_000_000_000
    times = [(0, 1.0), (1, 3.0), (70, 5.0), (30, 8.0)]
    records = [reading("a", value, event_time_unix_nanos=at * second) for at, value in times]
    upload(feeds, batch("plant", records))
    upload(feeds, batch("plant", [reading("b", 1.0)]))
    *bars, of_b = found(server, "/v1/feeds/plant/bars?interval=1d")["bars"]
    assert (of_b["key"], of_b["view"]["complete"]) == ("b", False), "it is in progress"
    bars = found(server, "/v1/feeds/plant/bars?interval=1m&key=a")["bars"]
    assert [(bar["reading_bar"]["start"], bar["reading_bar"]["mean"]) for bar in bars] == [
        ("1970-01-01T00:00:00.000000000Z", 4.0),
        ("1970-01-01T00:01:00.000000000Z", 5.0),
    ]


def test_more_bars_than_an_answer_holds_are_refused_and_it_is_said_what_to_do(server, feeds):
    for first in range(0, 21_000, 3_000):
        records = [
            reading("a", 1.0, event_time_unix_nanos=n * 1_000_000_000)
            for n in range(first, first + 3_000)
        ]
        upload(feeds, batch("plant", records))
    status, _, error = refused(server, "/v1/feeds/plant/bars?interval=1s")
    assert (status, error["reason"]) == (400, "INVALID_ARGUMENT")
    assert "ask for longer ones" in error["message"]
    assert len(found(server, "/v1/feeds/plant/bars?interval=1m")["bars"]) == 350


def test_integers_and_decimals_are_texts_with_all_their_digits(server, feeds):
    values = {
        "decimal": record_pb2.Reading(decimal=record_pb2.Decimal(units=2150, scale=2)),
        "integer": record_pb2.Reading(integer=2**62 + 1),
        "number": record_pb2.Reading(number=0.1),
    }
    records = [record_pb2.Record(key=key, reading=value) for key, value in values.items()]
    upload(feeds, batch("plant", records))
    told = {r["key"]: r["reading"] for r in found(server, "/v1/feeds/plant/latest")["records"]}
    assert told["decimal"]["decimal"] == "21.50"
    assert told["integer"]["integer"] == str(2**62 + 1)
    assert told["number"]["value"] == 0.1


def test_what_cannot_be_answered_says_why(server, feeds):
    upload(feeds, batch("plant", readings(3)))
    for path, status, reason, says in [
        ("/v1/feeds/nope/latest", 404, "UNKNOWN_FEED", "nope"),
        ("/v1/feeds/nope/live", 404, "UNKNOWN_FEED", "nope"),
        ("/v1/feeds/UPPER/latest", 400, "INVALID_ARGUMENT", "feed"),
        ("/v1/feeds/plant/latest?kye=a", 400, "INVALID_ARGUMENT", "`kye`: is no parameter here"),
        ("/v1/feeds/plant/bars", 400, "INVALID_ARGUMENT", "`interval`: is missing"),
        ("/v1/feeds/plant/bars?interval=1", 400, "INVALID_ARGUMENT", "250ms, 10m"),
        ("/v1/feeds/plant/bars?interval=1ms", 400, "INVALID_ARGUMENT", "interval"),
        ("/v1/feeds/plant/bars?interval=1m&from=noon", 400, "INVALID_ARGUMENT", "noon"),
        ("/v1/feeds/plant/live?bars=1m&conflate=1s", 400, "INVALID_ARGUMENT", "conflate"),
        ("/v1/feeds/plant/live?from=a&from=b", 400, "INVALID_ARGUMENT", "more than once"),
        ("/v1/feeds?page_size=x", 400, "INVALID_ARGUMENT", "page_size"),
    ]:
        answered, _, error = refused(server, path)
        assert (answered, error["reason"]) == (status, reason), (path, error)
        assert says in error["message"], error
    answered, _, error = refused(server, "/v1/feeds/plant/live", Last_Event_ID="7; drop")
    assert (answered, error["reason"]) == (400, "INVALID_ARGUMENT")
    assert "leave it out to begin anew" in error["message"]
    connection = http.client.HTTPConnection(server.address, timeout=SECONDS)
    connection.request("POST", "/v1/feeds")
    assert connection.getresponse().status == 405


def test_an_error_names_its_request(server):
    _, headers, error = refused(server, "/v1/feeds/nope", x_request_id="mine-7")
    assert headers["x-request-id"] == error["request_id"] == "mine-7"
    server.terminate()
    logged = [json.loads(line) for line in server.log if "mine-7" in line]
    assert any("GetFeed" in json.dumps(line) for line in logged)


def test_curl_gets_the_latest_of_each_key_and_then_what_comes(server, feeds):
    upload(feeds, batch("plant", [*readings(5), reading("door", 1.0)]))
    account = Account()
    with Curl(server, "/v1/feeds/plant/live") as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
        assert {key: r["reading"]["value"] for key, r in account.latest.items()} == {
            "pi17.temp": 4.0,
            "door": 1.0,
        }
        assert account.records == [] and account.next == 6
        upload(feeds, batch("plant", readings(3, first=5)))
        curl.until(account, lambda a: len(a.records) == 3)
    assert account.offsets == [6, 7, 8]
    assert account.latest["pi17.temp"]["reading"]["value"] == 7.0


def test_keys_are_described_where_that_is_asked_for(stocks):
    last = {}
    with Curl(stocks, "/v1/feeds/prices/live?key=AAPL&info=true") as curl:
        for name, data in curl:
            last[name] = data
            if name == "caught_up":
                break
    assert last["key_info"]["key"] == "AAPL" and last["key_info"]["info"]["currency"] == "USD"
    with Curl(stocks, "/v1/feeds/prices/live?key=AAPL") as curl:
        account = Account()
        curl.until(account, lambda a: "caught_up" in a.names)
    assert account.names == ["message", "snapshot_complete", "caught_up"]


def test_a_stream_of_events_is_not_to_be_kept_back(server, feeds):
    upload(feeds, batch("plant", readings(1)))
    connection = http.client.HTTPConnection(server.address, timeout=SECONDS)
    connection.request("GET", "/v1/feeds/plant/live")
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/event-stream"
    assert answer.getheader("cache-control") == "no-store"
    assert answer.getheader("x-accel-buffering") == "no"
    connection.close()


def test_keys_are_filtered_and_what_they_leave_out_is_told(server, feeds):
    records = [reading(f"k{n % 4}", float(n)) for n in range(40)]
    upload(feeds, batch("plant", records))
    account = Account(0)
    with Curl(server, "/v1/feeds/plant/live?key=k1&key=x*&from=earliest") as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
    assert account.next == 40 and [r["key"] for r in account.records] == ["k1"] * 10


class Uploads(threading.Thread):
    """Uploads batches of all sizes until it is told to stop."""

    def __init__(self, server, feed):
        super().__init__()
        self.server, self.feed = server, feed
        self.stop = threading.Event()
        self.count = 0

    def run(self):
        dice = random.Random(7)
        with self.server.channel() as channel:
            feeds = self.server.feeds(channel)
            while not self.stop.wait(0.002):
                size = dice.choice([1, 1, 2, 30, 400])
                upload(feeds, batch(self.feed, readings(size, first=self.count)))
                self.count += size

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()


def cut_reads(server, path, account, enough):
    """Reads the feed over connections that are cut anywhere, and goes on by Last-Event-ID, until it
    is enough. Whatever of an event is there when it is cut does not count."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    events, connections = Events(), 0
    while not enough(account):
        connections += 1
        events.rest = b""
        events._id, events._name, events._data = None, "", []
        with socket.create_connection(server.address.split(":"), timeout=SECONDS) as connection:
            last = f"Last-Event-ID: {events.last_id}\r\n" if events.last_id else ""
            head = f"GET {path} HTTP/1.0\r\nHost: {server.address}\r\n{last}\r\n"
            connection.sendall(head.encode())
            answer = connection.makefile("rb")
            assert b" 200 " in answer.readline()
            while answer.readline().strip():
                pass
            left = dice.choice([10, 300, 5_000, 50_000])
            while left > 0 and not enough(account) and (piece := answer.read1(min(left, 4_096))):
                left -= len(piece)
                for event in events.feed(piece):
                    account.take(*event)
    return connections


def test_a_cut_anywhere_goes_on_by_the_last_event_id_without_loss_or_double(server, feeds):
    upload(feeds, batch("plant", readings(1)))
    account = Account(0)
    with Uploads(server, "plant") as uploads:
        path = "/v1/feeds/plant/live?from=earliest"
        connections = cut_reads(server, path, account, lambda a: a.next > 5_000)
        assert uploads.count > 0 and connections > 10
    assert account.gaps == [] and account.offsets == list(range(account.next))


def test_a_filtered_feed_goes_on_where_it_was_cut(server, feeds):
    records = [reading(f"k{n % 7}", float(n)) for n in range(2_000)]
    upload(feeds, batch("plant", records))
    account = Account(0)
    path = "/v1/feeds/plant/live?key=k3&from=earliest"
    connections = cut_reads(server, path, account, lambda a: a.next == 2_000)
    assert account.offsets == list(range(3, 2_000, 7)) and connections > 3


def test_a_killed_server_is_gone_on_from(server, feeds):
    upload(feeds, batch("plant", readings(10)))
    account = Account()
    with Curl(server, "/v1/feeds/plant/live") as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
        upload(feeds, batch("plant", readings(5, first=10)))
        curl.until(account, lambda a: len(a.records) == 5)
        server.kill()
        assert list(curl) == [], "events after a kill"
        last = curl.events.last_id
    server.start()
    with server.channel() as channel:
        upload(server.feeds(channel), batch("plant", readings(5, first=15)))
        with Curl(server, "/v1/feeds/plant/live", "-H", f"Last-Event-ID: {last}") as curl:
            curl.until(account, lambda a: len(a.records) == 10)
        with Curl(server, f"/v1/feeds/plant/live?from={last}") as curl:
            again = Account(15)
            curl.until(again, lambda a: len(a.records) == 5)
    assert account.offsets == list(range(10, 20)) and account.gaps == []


def test_a_stopping_server_says_so_at_the_end(server, feeds):
    upload(feeds, batch("plant", readings(1)))
    account = Account()
    with Curl(server, "/v1/feeds/plant/live") as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
        assert server.terminate() == 0
        for event in curl:
            account.take(*event)
        assert curl.process.wait(SECONDS) == 0, "the answer was cut and not ended"
    assert account.names[-1] == "reconnect"


def test_what_retention_took_is_told(server, feeds, catalog):
    create_small(catalog, "small")
    upload(feeds, batch("small", readings(10)))
    account = Account(0)
    with Curl(server, "/v1/feeds/small/live?from=0") as curl:
        curl.until(account, lambda a: a.next == 10)
        last = curl.events.last_id
    fill(feeds, "small")
    with Curl(server, "/v1/feeds/small/live", "-H", f"Last-Event-ID: {last}") as curl:
        curl.until(account, lambda a: "caught_up" in a.names[-1:])
    (gap,) = account.gaps
    assert (gap["reason"], gap["from"]) == ("EVICTED", "10")
    assert account.next == int(found(server, "/v1/feeds/small")["next"])


def test_a_feed_created_anew_is_told_and_goes_on(server, feeds, catalog):
    from ringfeed.v1 import catalog_pb2

    upload(feeds, batch("plant", readings(10)))
    account = Account(0)
    with Curl(server, "/v1/feeds/plant/live?from=0") as curl:
        curl.until(account, lambda a: a.next == 10)
        last = curl.events.last_id
    catalog.DeleteFeed(catalog_pb2.DeleteFeedRequest(name="plant"))
    upload(feeds, batch("plant", readings(3)))
    events = []
    with Curl(server, "/v1/feeds/plant/live", "-H", f"Last-Event-ID: {last}") as curl:
        for name, data in curl:
            events.append((name, data))
            if name == "caught_up":
                break
        again = curl.events.last_id
    gaps = [data for name, data in events if name == "gap"]
    assert [gap["reason"] for gap in gaps] == ["EPOCH_CHANGED"]
    assert [int(data["offset"]) for name, data in events if name == "message"] == [0, 1, 2]
    assert again.split(".")[0] != last.split(".")[0] and again.split(".")[1] == "3"


def test_conflated_values_are_the_latest_and_account_for_the_rest(server, feeds):
    upload(feeds, batch("plant", [reading(f"k{n % 5}", float(n)) for n in range(1_000)]))
    account = {}
    with Curl(server, "/v1/feeds/plant/live?from=earliest&conflate=50ms") as curl:
        messages, covered = 0, 0
        for name, data in curl:
            if name == "message":
                messages += 1
                account[data["key"]] = data["reading"]["value"]
            elif name == "covered":
                assert int(data["from"]) == covered
                covered = int(data["to"])
            elif name == "caught_up":
                break
    assert covered == 1_000 and messages < 100
    assert account == {f"k{n}": 995.0 + n for n in range(5)}


def test_bars_are_followed_while_they_are_made(server, feeds):
    second = 1_000_000_000
    upload(feeds, batch("plant", [reading("a", 1.0, event_time_unix_nanos=0)]))
    bars = {}
    path = "/v1/feeds/plant/live?bars=1m&open=true&from=earliest"
    with Curl(server, path) as curl:
        for name, data in curl:
            if name == "caught_up":
                late = [reading("a", 9.0, event_time_unix_nanos=30 * second)]
                upload(feeds, batch("plant", late))
            elif name == "message":
                bar = data["reading_bar"]
                bars[bar["start"]] = (bar["max"], bar["count"])
                if bars == {"1970-01-01T00:00:00.000000000Z": (9.0, "2")}:
                    break


def test_names_of_keys_cannot_forge_events(server, feeds):
    hostile = 'x\n\nevent: gap\ndata: {}\r\n\r\nid: 1.1\n\u2028"</script>'
    upload(feeds, batch("plant", [reading(hostile, 1.0), reading("good", 2.0)]))
    account = Account(0)
    with Curl(server, "/v1/feeds/plant/live?from=earliest") as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
    expected = {"message", "caught_up"}
    assert [record["key"] for record in account.records] in ([hostile, "good"], ["good"])
    assert set(account.names) <= expected


def resident(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


def test_a_curl_that_stands_still_costs_bounded_memory(server, feeds, catalog):
    create_small(catalog, "small")
    fill(feeds, "small", megabytes=4)
    curls = [Curl(server, "/v1/feeds/small/live?from=earliest") for _ in range(20)]
    try:
        for curl in curls:
            next(iter(curl))
            curl.process.send_signal(signal.SIGSTOP)
        before = resident(server)
        fill(feeds, "small", megabytes=100)
        # Of 2 GB that they do not read. The store's own caches take part of it.
        assert resident(server) - before < 192 * MIB
        account = Account()
        for curl in curls:
            curl.process.send_signal(signal.SIGCONT)
        curls[0].until(account, lambda a: a.gaps and a.names[-1] == "caught_up")
        assert {gap["reason"] for gap in account.gaps} == {"EVICTED"}
    finally:
        for curl in curls:
            curl.process.send_signal(signal.SIGCONT)
            curl.__exit__()


TOKENS = [
    ("all", "subscribe:*"),
    ("plant", "subscribe:plant:pi17.*"),
    ("watcher", "observe:*"),
]


@pytest.fixture
def guarded(tmp_path):
    """A server with tokens, and the tokens by their principals."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGFEED_")}
    file, tokens = tmp_path / "tokens.toml", {}
    for principal, scope in [*TOKENS, ("device", "ingest:*")]:
        command = [BINARY, "token", "create", "--principal", principal, "--scope", scope]
        out = tmp_path / f"{principal}.token"
        command += ["--expires", "1d", "--file", file, "--output", out]
        subprocess.run(command, env=clean, check=True, capture_output=True)
        tokens[principal] = out.read_text().strip()
    settings = {"RINGFEED_AUTH__TOKEN_FILE": str(file)}
    with Server(tmp_path / "data", **settings) as server:
        server.tokens, server.token_file = tokens, file
        with server.channel() as channel:
            metadata = [("authorization", f"Bearer {tokens['device']}")]
            for feed in ("plant", "prices"):
                records = [reading(key, 1.0) for key in ("pi17.temp", "pi18.temp")]
                messages = iter([batch(feed, records)])
                server.feeds(channel).Ingest(messages, metadata=metadata, timeout=SECONDS)
        yield server


def bearer(server, principal):
    return {"authorization": f"Bearer {server.tokens[principal]}"}


def test_the_same_tokens_are_asked_for(guarded):
    for path in ("/v1/feeds", "/v1/feeds/plant/latest", "/v1/feeds/plant/live"):
        status, headers, error = refused(guarded, path)
        assert (status, error["reason"]) == (401, "NO_CREDENTIALS")
        assert headers["www-authenticate"] == "Bearer"
        status, _, error = refused(guarded, path, authorization="Bearer rf_nonsense")
        assert (status, error["reason"]) == (401, "INVALID_TOKEN")
    whole = found(guarded, "/v1/feeds/prices/latest", **bearer(guarded, "all"))
    assert len(whole["records"]) == 2 and "narrowed_to" not in whole


def test_nobody_sees_more_than_the_scopes_allow(guarded):
    plant = bearer(guarded, "plant")
    assert [feed["name"] for feed in found(guarded, "/v1/feeds", **plant)["feeds"]] == ["plant"]
    some = found(guarded, "/v1/feeds/plant/latest", **plant)
    assert [record["key"] for record in some["records"]] == ["pi17.temp"]
    assert some["narrowed_to"] == ["pi17.*"]
    for path in (
        "/v1/feeds/prices/latest",
        "/v1/feeds/nope/latest",
        "/v1/feeds/prices/bars?interval=1m",
        "/v1/feeds/plant/latest?key=pi18.temp",
        "/v1/feeds/plant/live?key=pi18.temp",
    ):
        status, _, error = refused(guarded, path, **plant)
        assert (status, error["reason"]) == (403, "PERMISSION_DENIED"), path
    status, _, _ = refused(guarded, "/v1/feeds/plant/live", **bearer(guarded, "watcher"))
    assert status == 403
    account = Account()
    flag = f"Authorization: Bearer {guarded.tokens['plant']}"
    with Curl(guarded, "/v1/feeds/plant/live", "-H", flag) as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
    assert account.latest.keys() == {"pi17.temp"} and account.names[0] == "narrowed"


def test_a_revoked_token_ends_its_stream_and_a_new_one_goes_on(guarded):
    account = Account()
    flag = f"Authorization: Bearer {guarded.tokens['plant']}"
    with Curl(guarded, "/v1/feeds/plant/live", "-H", flag) as curl:
        curl.until(account, lambda a: "caught_up" in a.names)
        name = guarded.tokens["plant"].split("_")[1]
        command = [BINARY, "token", "revoke", name, "--file", guarded.token_file]
        subprocess.run(command, check=True, capture_output=True)
        events = list(curl)
        last = curl.events.last_id
    assert [name for name, _ in events][-2:] == ["reconnect", "failure"]
    assert events[-1][1]["error"]["reason"] == "TOKEN_REVOKED"
    status, _, error = refused(guarded, "/v1/feeds/plant/live", authorization=flag[15:])
    assert (status, error["reason"]) == (401, "INVALID_TOKEN")
    flags = ["-H", f"Authorization: Bearer {guarded.tokens['all']}", "-H", f"Last-Event-ID: {last}"]
    with Curl(guarded, "/v1/feeds/plant/live", *flags) as curl:
        curl.until(Account(2), lambda a: "caught_up" in a.names)


def test_the_same_limits_hold(tmp_path):
    settings = {
        "RINGFEED_LIMITS__PER_PRINCIPAL__STREAMS": "1",
        "RINGFEED_LIMITS__PER_PRINCIPAL__CALLS_PER_SECOND": "5",
    }
    with Server(tmp_path / "data", **settings) as server, server.channel() as channel:
        upload(server.feeds(channel), batch("plant", readings(1)))
        with Curl(server, "/v1/feeds/plant/live") as curl:
            curl.until(Account(), lambda a: "caught_up" in a.names)
            status, headers, error = refused(server, "/v1/feeds/plant/live")
            assert (status, error["reason"]) == (429, "STREAM_LIMIT")
        answers = [get(server, "/v1/feeds") for _ in range(20)]
        limited = [(headers, body) for status, headers, body in answers if status == 429]
        assert limited and limited[0][1]["error"]["reason"] == "RATE_LIMITED"
        assert int(limited[0][0]["retry-after"]) >= 1
        assert limited[0][1]["error"]["retry_after_seconds"] > 0


def test_a_peer_is_the_one_that_asked(tmp_path):
    with Server(tmp_path / "data", RINGFEED_LIMITS__PER_PEER__STREAMS="1") as server:
        with server.channel() as channel:
            upload(server.feeds(channel), batch("plant", readings(1)))
        with Curl(server, "/v1/feeds/plant/live") as curl:
            curl.until(Account(), lambda a: "caught_up" in a.names)
            status, _, error = refused(server, "/v1/feeds/plant/live")
            assert (status, error["reason"]) == (429, "STREAM_LIMIT")
            assert "127.0.0.1" in error["message"]


def test_pages_of_other_origins_read_it_only_where_they_are_listed(tmp_path):
    origin = "https://dash.example.com"
    with Server(tmp_path / "data", RINGFEED_CORS_ORIGINS=f'["{origin}"]') as server:
        status, headers, _ = get(server, "/v1/feeds", Origin=origin)
        assert status == 200 and headers["access-control-allow-origin"] == origin
        assert headers["cross-origin-resource-policy"] == "same-origin"
        connection = http.client.HTTPConnection(server.address, timeout=SECONDS)
        connection.request("GET", "/v1/feeds", headers={"Origin": "https://evil.example"})
        assert connection.getresponse().status == 403


def test_metrics_count_it_as_the_calls_it_is(server, feeds):
    upload(feeds, batch("plant", readings(1)))
    found(server, "/v1/feeds/plant/latest")
    deadline = time.monotonic() + SECONDS
    line = 'ringfeed_rpc_handled_total{rpc="Subscribe",code="OK"} 1'
    text = ""
    while line not in text and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(server.metrics, timeout=SECONDS)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    assert line in text, [l for l in text.splitlines() if "Subscribe" in l]


def test_the_commands_of_the_documentation_work(stocks, feeds):
    upload(feeds, batch("sensors", readings(1)))
    text = (ROOT / "docs" / "http.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    for line in block.splitlines():
        command = line.replace("127.0.0.1:50051", stocks.address)
        if line.endswith("/live"):
            with subprocess.Popen(command.split(), stdout=subprocess.PIPE, text=True) as curl:
                assert any(part == "event: caught_up\n" for part in curl.stdout)
                curl.kill()
        else:
            ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
            assert json.loads(ran.stdout).keys() & {"feeds", "records", "bars"}, line
