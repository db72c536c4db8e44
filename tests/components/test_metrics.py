"""docs/metrics.md is what the server exports: by its source, and by a scrape of a real server that
saw everything once."""

import re

import grpc
import pytest
from harness import (
    ROOT,
    at_offset,
    batch,
    create_small,
    details,
    fill,
    now,
    reading,
    readings,
    selector,
    subscribe,
    upload,
)
from prometheus import metrics_source, scrape, waiting

# What happens to callers and connections that are not as they should be is counted in the suites of
# layers and server; here nobody misbehaves that way.
ELSEWHERE = re.compile(
    r"ringfeed_(auth|tls|connections|requests|rate_limited|overloaded)_?\w*_total|ringfeed_incomplete_bytes"
)

PAGE = (ROOT / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*) \|$", re.M)


def documented():
    """Type, labels, unit and meaning by name."""
    rows = ROW.findall(PAGE.split("## Reasons")[0])
    assert len(rows) == len({row[0] for row in rows}), "a metric is there twice"
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)), unit, meaning)
        for name, kind, labels, unit, meaning in rows
    }


def described():
    """Type and help by name, as src/metrics describes them."""
    source = metrics_source()
    found = {}
    for kind, table in [("counter", "COUNTERS"), ("gauge", "GAUGES"), ("histogram", "HISTOGRAMS")]:
        body = re.search(rf"const {table}: .*?^\];", source, re.M | re.S)[0]
        found |= {n: (kind, text) for n, text in re.findall(r'\("(\w+)", "([^"]*)"\)', body)}
    name, text = re.search(r'const BUSY_SECONDS.*?"(\w+)",\s*"([^"]*)"', source, re.M | re.S).groups()
    named = set(re.findall(r'"(ringfeed_\w+)"', source))
    found |= {name: ("counter", text)}
    assert named == set(found), f"without a description, or without a use: {named ^ set(found)}"
    return found


def test_the_page_is_what_the_source_describes():
    page = documented()
    ours = {n: (row[0], row[3]) for n, row in page.items() if n.startswith("ringfeed_")}
    assert ours == described()
    for name, (_, _, unit, _) in page.items():
        bare = name.removesuffix("_total")
        for suffix, word in [("_seconds", "seconds"), ("_bytes", "bytes"), ("_records", "records")]:
            if bare.endswith(suffix):
                assert unit.lower().endswith(word), name


def test_the_page_lists_every_reason():
    def reasons(metric):
        row = re.search(rf"^\| `reason` \| `{metric}` \| (.*) \|$", PAGE, re.M)[1]
        return set(re.findall(r"`(\w+)`", row))

    def named(path, form):
        return set(re.findall(rf'=> "({form})"', (ROOT / "src" / path).read_text()))

    assert reasons("ringfeed_gaps_total") == named("model/cursor.rs", "[a-z_]+")
    refused = named("proto/wire/refuse.rs", "[A-Z0-9_]+") - {"ATOMIC"}
    assert reasons("ringfeed_refused_records_total") == refused
    assert reasons("ringfeed_streams_ended_total") == named("layers/end.rs", "[a-z_]+")


@pytest.fixture
def saw_everything(server, feeds, catalog):
    """A server on which each thing that is counted has happened."""
    create_small(catalog, "small")
    upload(feeds, batch("small", [*readings(1), reading("", 1.0)], "p", 1))
    fill(feeds, "small")
    told = [r.WhichOneof("event") for r in subscribe(feeds, selector("small", at_offset(0), end=now()))]
    assert "gap" in told
    with pytest.raises(grpc.RpcError) as refused:
        upload(feeds, batch("small", readings(1), "p", 999))
    assert details(refused.value)
    return server


def test_the_page_is_what_a_server_exports(saw_everything):
    page = documented()

    def exported():
        families = scrape(saw_everything.metrics)
        # The parser takes `_total` off, as OpenMetrics has it.
        names = {n if f.type != "counter" else f"{n.removesuffix('_total')}_total": f for n, f in families.items()}
        return names if "ringfeed_keys_stale" in names and names["ringfeed_keys_stale"].samples else None

    families = waiting("the gauges of feeds", exported)
    missing = {name for name in set(page) - set(families) if not ELSEWHERE.fullmatch(name)}
    unknown = set(families) - set(page)
    assert not missing and not unknown, f"not exported: {missing}; not on the page: {unknown}"
    for name, family in families.items():
        kind, labels, _, meaning = page[name]
        assert family.type == kind, name
        assert family.samples, f"{name} has no value"
        assert family.documentation == meaning, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
