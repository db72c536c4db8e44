"""A real Prometheus with the project's own rules, and what a scrape says."""

import http.client
import json
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from harness import ROOT
from prometheus_client.parser import text_string_to_metric_families

GRAFANA = ROOT / "grafana"
TOOLS = ROOT / ".tools" / "prometheus" / "usr" / "bin"
# Reached only by a defect.
DEADLINE_SECONDS = 60


def promtool(*arguments):
    ran = subprocess.run([TOOLS / "promtool", *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def metrics_source():
    return "".join(path.read_text() for path in sorted((ROOT / "src" / "metrics").glob("*.rs")))


def rules(name):
    """The rules of a file, in order."""
    groups = yaml.safe_load((GRAFANA / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def scrape(address):
    """Families by name, as Prometheus reads them."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/metrics")
    body = connection.getresponse().read().decode()
    connection.close()
    return {family.name: family for family in text_string_to_metric_families(body)}


def waiting(what, holds, meanwhile=lambda: None):
    """Waits for what nobody announces; answers what was found."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS} s"
        meanwhile()
        time.sleep(0.2)
    return found


class Prometheus:
    """Scrapes addresses every second, with grafana/'s configuration and rules made as fast.

    `shorter` replaces what a rule waits for: {alert: {text: text}}."""

    def __init__(self, directory, *addresses, shorter=None):
        self.directory = pathlib.Path(directory)
        self.port = free_port()
        self.targets = len(addresses)
        self._configure(addresses, dict(shorter or {}))

    def _configure(self, addresses, shorter):
        self.directory.mkdir(parents=True, exist_ok=True)
        text = (GRAFANA / "prometheus.yml").read_text()
        aimed = text.replace('"127.0.0.1:9464"', ", ".join(f'"{it}"' for it in addresses))
        assert aimed != text
        aimed = re.sub(r"(scrape_interval|evaluation_interval): \w+", r"\1: 1s", aimed)
        (self.directory / "prometheus.yml").write_text(aimed)
        recording = (GRAFANA / "recording.yml").read_text()
        (self.directory / "recording.yml").write_text(recording.replace("interval: 5m", "interval: 1s"))
        alerts = yaml.safe_load((GRAFANA / "alerts.yml").read_text())
        for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
            rule.pop("for", None)
            for before, after in shorter.pop(rule["alert"], {}).items():
                assert before in rule["expr"], f"{rule['alert']} has no {before}"
                rule["expr"] = rule["expr"].replace(before, after)
        assert not shorter, f"no such alert: {shorter}"
        (self.directory / "alerts.yml").write_text(yaml.safe_dump(alerts))

    def __enter__(self):
        command = [
            TOOLS / "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with open(self.directory / "log", "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until("Prometheus scrapes", lambda: len(self.query("up == 1")) == self.targets)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory / "tsdb", ignore_errors=True)

    def query(self, expression):
        """What a query finds now; a query that is wrong fails the test."""
        question = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{question}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except urllib.error.URLError:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            return []

    def firing(self, instance):
        """Alerts that fire for a server, each with its labels."""
        found = self.query(f'ALERTS{{alertstate="firing",instance="{instance}"}}')
        return [series["metric"] for series in found]

    def until(self, what, holds, meanwhile=lambda: None):
        return waiting(what, holds, meanwhile)
