"""What grafana/ asks for exists: by name in the source, and by query in a real Prometheus."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from harness import ROOT, batch, readings, stored, upload

GRAFANA = ROOT / "grafana"
TOOLS = ROOT / ".tools" / "prometheus" / "usr" / "bin"
DEADLINE_SECONDS = 60
# There is nothing to see of these until something goes wrong.
QUIET = re.compile(r"gaps_total|refused_records_total")


def dashboards():
    return [json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))]


def queries():
    return [
        (panel["title"], target["expr"])
        for dashboard in dashboards()
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def test_dashboards_have_what_grafana_needs():
    for dashboard in dashboards():
        assert dashboard["uid"] and dashboard["title"] and dashboard["schemaVersion"] >= 36
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        for panel in dashboard["panels"]:
            assert panel["title"] and panel["type"] and panel["gridPos"]["w"] <= 24
            assert panel["datasource"]["uid"] == "${datasource}"


def test_every_name_in_grafana_is_a_metric_of_the_server():
    source = (ROOT / "src" / "metrics.rs").read_text()
    known = set(re.findall(r'"(ringfeed_\w+)"', source))
    text = "".join(path.read_text() for path in GRAFANA.iterdir())
    used = set(re.findall(r"\bringfeed_\w+", text))
    bare = {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in used}
    assert used and bare <= known, f"no such metric: {sorted(bare - known)}"


def test_prometheus_takes_the_configuration_and_the_alerts():
    checked = subprocess.run(
        [TOOLS / "promtool", "check", "config", GRAFANA / "prometheus.yml"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "alerts.yml" in checked.stdout


@pytest.fixture
def prometheus(server, feeds, tmp_path):
    """A real Prometheus with the project's own configuration, on free ports."""
    configuration = (GRAFANA / "prometheus.yml").read_text()
    aimed = configuration.replace("127.0.0.1:9464", server.metrics)
    assert aimed != configuration
    aimed = re.sub(r"(scrape_interval|evaluation_interval): \w+", r"\1: 1s", aimed)
    (tmp_path / "prometheus.yml").write_text(aimed)
    (tmp_path / "alerts.yml").write_text((GRAFANA / "alerts.yml").read_text())
    port = free_port()
    command = [
        TOOLS / "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with open(tmp_path / "prometheus.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield lambda path: ask(port, path)
    process.kill()
    process.wait()


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    except urllib.error.URLError:
        return {"status": "starting"}


def query(prometheus, expression):
    # Grafana fills these in.
    expression = expression.replace("$__rate_interval", "10s").replace('"$feed"', '".*"')
    return prometheus("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))


def test_every_panel_shows_something_of_a_busy_server(prometheus, server, feeds):
    waiting = dict(queries())
    assert len(waiting) == len(queries()), "two panels have one title and several queries"
    deadline, sent = time.monotonic() + DEADLINE_SECONDS, 0
    while waiting:
        upload(feeds, batch("sensors", readings(5), "pi17", sent + 1))
        sent += 5
        stored(feeds, "sensors")
        for title, expression in list(waiting.items()):
            answer = query(prometheus, expression)
            if answer["status"] == "starting":
                continue
            assert answer["status"] == "success", f"{title}: {answer}"
            if answer["data"]["result"] or QUIET.search(expression):
                del waiting[title]
        assert time.monotonic() < deadline, f"nothing to see in {sorted(waiting)}"
        time.sleep(0.2)
