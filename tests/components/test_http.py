"""What browsers, load balancers and Prometheus see, by plain HTTP."""

import http.client
import subprocess

import pytest
from harness import ROOT, Server, batch, reading, readings, stored, upload
from prometheus_client.parser import text_string_to_metric_families

PROMTOOL = ROOT / ".tools" / "prometheus" / "usr" / "bin" / "promtool"


def request(address, method, path, headers=None):
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body


@pytest.fixture
def busy(server, feeds):
    upload(feeds, batch("sensors", [*readings(10), reading("", 1.0)], "pi17", 1))
    stored(feeds, "sensors")
    return server


def test_the_status_page_shows_the_feeds_and_lets_nothing_foreign_run(busy):
    status, headers, body = request(busy.address, "GET", "/status")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "<td>sensors" in body and "<script" not in body


def test_probes_answer(server):
    for path in ("/livez", "/readyz"):
        assert request(server.metrics, "GET", path)[0] == 200
    assert request(server.metrics, "GET", "/nope")[0] == 404
    assert request(server.address, "GET", "/metrics")[0] == 404


def test_the_scrape_is_what_prometheus_reads(busy):
    status, headers, body = request(busy.metrics, "GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    feed = ("feed", "sensors")
    assert samples["ringfeed_appended_records_total", (feed,)] == 10
    assert samples["ringfeed_next_offset", (feed,)] == 10
    assert samples["ringfeed_refused_records_total", (feed, ("reason", "MISSING"))] == 1
    assert samples["ringfeed_append_to_ack_seconds_count", ()] == 1
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_a_foreign_page_may_not_call(server):
    preflight = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-grpc-web",
    }
    path = "/ringfeed.v1.FeedService/GetLatest"
    _, headers, _ = request(server.address, "OPTIONS", path, preflight)
    assert "access-control-allow-origin" not in headers


def test_a_listed_page_may_call(tmp_path):
    listed = '["https://dash.example.com"]'
    with Server(tmp_path / "data", RINGFEED_CORS_ORIGINS=listed) as server:
        preflight = {
            "Origin": "https://dash.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-grpc-web",
        }
        path = "/ringfeed.v1.FeedService/GetLatest"
        _, headers, _ = request(server.address, "OPTIONS", path, preflight)
        assert headers["access-control-allow-origin"] == "https://dash.example.com"
        assert "content-type" in headers["access-control-allow-headers"]
