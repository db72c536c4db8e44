"""What grafana/ asks for exists: by name in the source, and by query in a real Prometheus that
scrapes a real server under the demo's load."""

import json
import os
import pathlib
import re
import signal
import subprocess
import urllib.parse
import urllib.request

import grpc
import pytest
from harness import (
    BINARY,
    ROOT,
    at_offset,
    batch,
    create_small,
    fill,
    now,
    reading,
    readings,
    selector,
    subscribe,
    upload,
)
from prometheus import GRAFANA, Prometheus, metrics_source, promtool, rules, waiting
from ringfeed.v1 import catalog_pb2_grpc, feed_pb2, feed_pb2_grpc, record_pb2

RULES = ROOT / "tests" / "components" / "grafana" / "rules.test.yml"
# What a dashboard's variables are when all is chosen, and what Grafana makes of the scrape interval.
FILLED = {"$instance": ".*", "$feed": ".*", "$__rate_interval": "20s"}


def dashboards():
    paths = sorted((GRAFANA / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def filled(expression):
    for variable, value in FILLED.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"nothing is known to fill in: {expression}"
    return expression


def queries():
    """Every PromQL query of a panel, by where it stands."""
    found = {}
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                if "expr" in target:
                    place = f"{name}: {panel['title']} ({panel['id']}{target['refId']})"
                    found[place] = filled(target["expr"])
    return found


def variable_queries():
    found = {}
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if "definition" in variable:
                series, label = re.fullmatch(
                    r"label_values\((.*), (\w+)\)", variable["definition"]
                ).groups()
                assert variable["definition"] == variable["query"]["query"]
                found[f"{name}: ${variable['name']}"] = f"group by ({label}) ({filled(series)})"
    return found


def test_dashboards_have_what_people_need():
    uids = [dashboard["uid"] for dashboard in dashboards().values()]
    assert len(uids) == len(set(uids)) == 3
    for name, dashboard in dashboards().items():
        panels = dashboard["panels"]
        ids = [panel["id"] for panel in panels]
        assert len(ids) == len(set(ids))
        cells = [cell for panel in panels for cell in covered(panel["gridPos"])]
        assert len(cells) == len(set(cells)), f"{name}: panels overlap"
        assert max(x for x, _ in cells) < 24


def covered(place):
    columns = range(place["x"], place["x"] + place["w"])
    rows = range(place["y"], place["y"] + place["h"])
    return [(x, y) for x in columns for y in rows]


def test_every_name_in_grafana_is_a_metric_of_the_server():
    source = metrics_source()
    known = set(re.findall(r'"(ringfeed_\w+)"', source))
    files = [path for path in GRAFANA.rglob("*") if path.is_file()] + [RULES]
    recorded = {rule["record"] for rule in rules("recording.yml")}
    text = "".join(path.read_text() for path in files)
    for record in recorded:
        text = text.replace(record, "")
    assert not re.findall(r"\w+:ringfeed\w*", text), "a recording rule that is not there"
    used = set(re.findall(r"\bringfeed_\w+", text))
    bare = {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in used}
    assert used and bare <= known, f"no such metric: {sorted(bare - known)}"
    outside = set(re.findall(r"\bprocess_\w+", text))
    described = (ROOT / "docs" / "metrics.md").read_text()
    assert outside and all(f"`{name}`" in described for name in outside)


def test_prometheus_takes_the_configuration_and_the_rules():
    assert "2 rule files" in promtool("check", "config", str(GRAFANA / "prometheus.yml"))
    files = [str(GRAFANA / "alerts.yml"), str(GRAFANA / "recording.yml")]
    promtool("check", "rules", "--lint=all", "--lint-fatal", *files)


def test_rules_do_what_they_say_on_made_series():
    assert "SUCCESS" in promtool("test", "rules", str(RULES))
    tested = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts", RULES.read_text()))
    assert tested == {rule["alert"] for rule in rules("alerts.yml")}


def anchors(text):
    return {re.sub(r"[^\w-]", "", title.lower()) for title in re.findall(r"^## (.*)$", text, re.M)}


def test_every_alert_leads_to_its_paragraph():
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    alerts = rules("alerts.yml")
    for rule in alerts:
        url = rule["annotations"]["runbook_url"]
        assert url == f"docs/runbook.md#{rule['alert'].lower()}"
        paragraph = runbook.split(f"\n## {rule['alert']}\n")[1].split("\n## ")[0]
        assert len(paragraph.split()) > 30, f"{rule['alert']} says too little"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert anchors(runbook) == {rule["alert"].lower() for rule in alerts}
    inner = re.findall(r"\(#([\w-]+)\)", runbook)
    assert set(inner) <= anchors(runbook)


# --- the values dashboard -------------------------------------------------------------------------


def ingested(server, feeds):
    """Recordings of prices and sensors, and what no recording has."""
    names = {
        "prices": [
            "market_us_stocks_daily",
            "market_us_stock_ticks_trades",
            "market_us_stock_ticks_quotes",
        ],
        "sensors": ["sensor_surfrad_alamosa_20160101"],
    }
    for feed, files in names.items():
        for name in files:
            command = [BINARY, "ingest", feed, "--file", ROOT / "fixtures" / f"{name}.csv"]
            at = ["--endpoint", f"http://{server.address}"]
            subprocess.run([*command, *at], check=True, capture_output=True)
    others = {
        "status": {"status": record_pb2.Status(state="offline")},
        "decimal": {"reading": record_pb2.Reading(decimal=record_pb2.Decimal(units=215, scale=1))},
        "integer": {"reading": record_pb2.Reading(integer=7)},
    }
    records = [record_pb2.Record(key=key, **payload) for key, payload in others.items()]
    upload(feeds, batch("sensors", records))


def answered(server, query, variables):
    """What the data source gets: the items below the root, and the fields that they have."""
    parameters = [(p["key"], p["value"]) for p in query["url_options"]["params"]]
    address = query["url"] + "?" + urllib.parse.urlencode(parameters, safe="${}:")
    for name, value in variables.items():
        address = re.sub(r"\$\{" + name + r"(:\w+)*\}", urllib.parse.quote(value), address)
    assert "$" not in address, f"nothing is known to fill in: {address}"
    with urllib.request.urlopen(f"http://{server.address}{address}") as answer:
        items = json.load(answer)[query["root_selector"]]
    assert isinstance(items, list)
    return items, {path for item in items for path in paths(item)}


def paths(value, before=""):
    if not isinstance(value, dict):
        return {before}
    dot = f"{before}." if before else ""
    return {path for name, inner in value.items() for path in paths(inner, dot + name)}


def test_what_values_asks_for_is_there(server, feeds):
    ingested(server, feeds)
    values = dashboards()["values"]
    early = {"interval": "7d", "__from": "2000-01-01T00:00:00Z"}
    chosen = [
        {"feed": "prices", "key": "AAPL"} | early,
        {"feed": "sensors", "key": "alamosa.air_temp"} | early,
    ]
    for panel in values["panels"]:
        for target in panel["targets"]:
            fields = set()
            for variables in chosen:
                items, found = answered(server, target, variables)
                assert items, f"{panel['title']}: nothing for {variables}"
                fields |= found
            for column in target["columns"]:
                assert column["selector"] in fields, f"{panel['title']}: {column}"
    asked = {v["name"]: v["query"]["infinityQuery"] for v in values["templating"]["list"] if v["type"] == "query"}
    assert asked.keys() == {"feed", "key"}
    for name, query in asked.items():
        [column] = query["columns"]
        for variables in chosen:
            items, _ = answered(server, query, variables)
            assert variables[name] in [item[column["selector"]] for item in items]


# --- a real Prometheus ----------------------------------------------------------------------------


class Demo:
    """`ringfeed demo` without an end: real recordings, a dashboard that is too slow, a kill -9."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGFEED_")}
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(
                [BINARY, "demo"], stdout=out, stderr=subprocess.STDOUT, env=clean
            )
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        finally:
            self.process.kill()

    def addresses(self):
        """Of the server's gRPC and metrics ports; `None` before it serves."""
        assert self.process.poll() is None, self.log.read_text()
        page = re.search(r"its page: http://([\d.:]+)/", self.log.read_text())
        ports = [port for child in children(self.process.pid) for port in listening(child)]
        if not page or len(ports) < 2:
            return None
        grpc_port = int(page[1].split(":")[1])
        [metrics] = set(ports) - {grpc_port}
        return page[1], f"127.0.0.1:{metrics}"


    def show_is_over(self):
        """It has killed its server, and will not again."""
        return "try it, in another terminal" in self.log.read_text()


def children(parent):
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{parent}\n" in status.read_text():
                yield int(status.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue


def listening(pid):
    """TCP ports of IPv4 that a process listens on."""
    sockets = set()
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            yield int(fields[1].split(":")[1], 16)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo, what is scraped of it, and a connection to its server."""
    directory = tmp_path_factory.mktemp("demo")
    with Demo(directory / "out") as demo:
        address, metrics = waiting("the demo serves", demo.addresses)
        with Prometheus(directory / "prometheus", metrics) as prometheus:
            with grpc.insecure_channel(address) as channel:
                yield demo, prometheus, channel


class Misbehaving:
    """What the demo's clients do not do, or not for long enough to be scraped: refused records and
    batches, repeats, calls that fail, a subscriber that does not read, and one that asks for what
    is gone."""

    def __init__(self, demo, channel):
        self.demo, self.sent, self.stuck = demo, 0, None
        self.feeds = feed_pb2_grpc.FeedServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)

    def __call__(self):
        if not self.demo.show_is_over():
            return
        if self.stuck is None:
            create_small(self.catalog, "tiny")
            fill(self.feeds, "tiny")
            self.stuck = subscribe(self.feeds, selector("tiny"))
            next(self.stuck)
        fill(self.feeds, "tiny")
        list(subscribe(self.feeds, selector("tiny", at_offset(0), end=now())))
        upload(self.feeds, batch("odd", [*readings(5), reading("", 1.0)], "pi17", self.sent + 1))
        upload(self.feeds, batch("odd", readings(5), "pi17", self.sent + 1))
        self.sent += 6
        self.feeds.GetLatest(feed_pb2.GetLatestRequest(feed="odd"))
        for fails in (self.gap, self.unknown, self.large):
            with pytest.raises(grpc.RpcError):
                fails()

    def gap(self):
        upload(self.feeds, batch("odd", readings(1), "pi17", self.sent + 1_000))

    def unknown(self):
        list(subscribe(self.feeds, selector("no-such-feed", at_offset(0))))

    def large(self):
        upload(self.feeds, batch("odd", readings(50_000)))


def test_every_query_shows_something_of_the_demo(demo):
    running, prometheus, channel = demo
    missing = queries() | variable_queries()
    recorded = {rule["record"]: rule["record"] for rule in rules("recording.yml")}
    # Of callers that are turned away there are none: it asks nobody who they are. test_alerts has some.
    recorded.pop("instance_code:ringfeed_auth_failures:rate5m")
    missing |= recorded
    assert len(missing) > 80

    def shown():
        # Also what was to be seen a while ago.
        for place, expression in list(missing.items()):
            if prometheus.query(f"last_over_time(({expression})[10m:1s])"):
                del missing[place]
        return not missing

    try:
        prometheus.until("all queries", shown, meanwhile=Misbehaving(running, channel))
    except AssertionError:
        raise AssertionError(f"nothing to see in {sorted(missing)}") from None
