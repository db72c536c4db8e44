"""`buf curl` knows the server only by its reflection: what a person with a terminal uses."""

import base64
import json
import pathlib
import subprocess
import sys

from google.rpc import error_details_pb2

BUF = pathlib.Path(sys.executable).parent / "buf"


def run(server, *arguments, sent=None):
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments]
    return subprocess.run(command, input=sent, capture_output=True, text=True, timeout=60)


def call(server, method, *messages):
    sent = "\n".join(json.dumps(message) for message in messages or [{}])
    url = f"http://{server.address}/ringfeed.v1.{method}"
    done = run(server, "-d", "@-", url, sent=sent)
    assert done.returncode == 0, done.stderr
    decoder, text, answers = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:].strip()
    return answers


def test_services_are_listed(server):
    listed = run(server, "--list-methods", f"http://{server.address}")
    methods = listed.stdout.split()
    assert "ringfeed.v1.FeedService/Subscribe" in methods
    assert "ringfeed.v1.CatalogService/ListFeeds" in methods
    assert "grpc.health.v1.Health/Check" in methods


def test_a_feed_from_creation_to_deletion(server):
    feed = {"name": "sensors", "retention": {"maxBytes": 4 << 20, "maxAge": "3600s"}}
    [created] = call(server, "CatalogService/CreateFeed", feed)
    assert created["feed"]["retention"] == {"maxBytes": "4194304", "maxAge": "3600s"}
    first = {
        "feed": "sensors",
        "records": [
            {"key": "pi17.temp", "reading": {"number": 21.5}},
            {"key": "pi17.temp", "reading": {"quality": "QUALITY_BAD"}},
        ],
    }
    second = {"records": [{"key": "door", "reading": {"flag": True}}]}
    [summary] = call(server, "FeedService/Ingest", first, second)
    assert summary["stored"] == "3"
    [latest] = call(server, "FeedService/GetLatest", {"feed": "sensors", "keys": ["door"]})
    assert [record["reading"] for record in latest["records"]] == [{"flag": True}]
    wanted = {"feed": "sensors", "start": {"earliest": {}}, "end": {"now": {}}}
    answers = call(server, "FeedService/Subscribe", {"selectors": [wanted]})
    records = [r for a in answers for r in a.get("records", {}).get("records", [])]
    assert [record["key"] for record in records] == ["pi17.temp", "pi17.temp", "door"]
    info = {"feed": "sensors", "key": "pi17.temp", "info": {"unit": "Cel"}}
    call(server, "CatalogService/SetKeyInfo", info)
    [keys] = call(server, "CatalogService/ListKeys", {"feed": "sensors"})
    assert {key["key"]: key.get("info", {}).get("unit") for key in keys["keys"]} == {
        "door": None,
        "pi17.temp": "Cel",
    }
    [listed] = call(server, "CatalogService/ListFeeds")
    assert [(feed["name"], feed["next"]) for feed in listed["feeds"]] == [("sensors", "3")]
    call(server, "CatalogService/DeleteFeed", {"name": "sensors"})
    assert call(server, "CatalogService/ListFeeds") == [{}]


def test_a_bad_call_says_which_field_and_why(server):
    bad = {"selectors": [{"feed": "Not A Name"}]}
    url = f"http://{server.address}/ringfeed.v1.FeedService/Subscribe"
    done = run(server, "-d", json.dumps(bad), url)
    assert done.returncode != 0
    error = json.loads(done.stderr)
    assert error["code"] == "invalid_argument"
    [bytes_of] = [
        detail["value"] for detail in error["details"] if detail["type"] == "google.rpc.BadRequest"
    ]
    padded = bytes_of + "=" * (-len(bytes_of) % 4)
    request = error_details_pb2.BadRequest.FromString(base64.b64decode(padded))
    assert request.field_violations[0].field == "selectors[0].feed"


def test_a_call_that_does_not_exist_is_unimplemented(server):
    bad = run(server, "-d", "{}", f"http://{server.address}/ringfeed.v1.FeedService/Nope")
    assert bad.returncode != 0
