"""What people see on a terminal: `ringfeed watch` while a feed moves, and the tables of other commands
on eighty columns and in a pipe."""

import csv
import json
import os
import re
import signal
import subprocess
import unicodedata

import pytest
from harness import BINARY, ROOT, Server, batch, reading, upload
from ringfeed.v1 import catalog_pb2, feed_pb2, record_pb2
from terminal import PROMPT, Terminal

BMS = ROOT / "fixtures" / "sensor_midc_bms_20181018.csv"
QUOTES = ROOT / "fixtures" / "market_us_stock_ticks_quotes.csv"
# Columns of the file and what keys are made of them.
BMS_KEYS = {
    "Direct Normal [W/m^2]": "direct_normal",
    "Global Horiz (tracker) [W/m^2]": "global_tracker",
    "Global Horiz (platform) [W/m^2]": "global_platform",
}


@pytest.fixture
def server(tmp_path):
    """One that comes back under its old address."""
    with Server(tmp_path / "data") as server:
        server.listen = server.address
        yield server


@pytest.fixture
def terminal(server, tmp_path):
    with Terminal(tmp_path, server.address) as terminal:
        yield terminal


def ringfeed(server, *arguments, **options):
    command = [BINARY, *arguments, "--endpoint", f"http://{server.address}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def ingest(server, feed, file):
    done = ringfeed(server, "ingest", feed, "--file", str(file))
    assert done.returncode == 0, done.stderr


def send(server, feed, *records):
    with server.channel() as channel:
        assert upload(server.feeds(channel), batch(feed, records)).stored == len(records)


def live(lines):
    return lines[0].endswith("● live")


def table(lines):
    """Rows of the table by their first word: the other words."""
    head = next(number for number, line in enumerate(lines) if line.startswith("KEY"))
    rows = [line.split() for line in lines[head + 1 :]]
    body = rows[: rows.index([])] if [] in rows else rows[:-2]
    return {words[0]: words[1:] for words in body}


def watch(terminal, arguments, rows=1):
    terminal.type(f"ringfeed watch {arguments}")
    whole = f" of {rows}"
    return terminal.until(lambda lines: live(lines) and lines[-1].endswith(whole), f"live screen of {rows} rows")


def test_values_are_those_of_the_recording(server, terminal):
    ingest(server, "bms", BMS)
    with BMS.open() as file:
        final = list(csv.DictReader(file))[-1]
    terminal.resize(120, 40)
    lines = watch(terminal, "bms", 15)
    rows = table(lines)
    assert len(rows) == 15
    for column, key in BMS_KEYS.items():
        assert rows[f"bms.{key}"][:3] == ["reading", final[column], "W/m2"], "\n".join(lines)
    # A broken thermistor has no value, and its quality says so.
    assert rows["bms.chp1_temp"][:3] == ["reading", "–", "bad"]
    assert rows["bms.air_temp"][3][:2] in ("▲+", "▼-") and re.fullmatch("[▁-█]+", rows["bms.air_temp"][4])
    terminal.press("q")

    ingest(server, "quotes", QUOTES)
    with QUOTES.open() as file:
        quotes = {row["ticker"]: [row["bid"], "/", row["ask"]] for row in csv.DictReader(file)}
    terminal.until(lambda lines: PROMPT.strip() in lines, "prompt")
    rows = table(watch(terminal, "quotes --key '[AG]*'", 2))
    assert {key: words[1:4] for key, words in rows.items()} == {key: quotes[key] for key in ("AAPL", "GOOG")}


def test_keys_sort_and_filter(server, terminal):
    send(server, "plant", *(reading(f"pi{n}.temp", 30.0 - n) for n in range(5)), reading("wind", 99.0))
    watch(terminal, "plant", 6)

    def keys_when(head):
        return list(table(terminal.until_shown(head)))

    by_key = [f"pi{n}.temp" for n in range(5)] + ["wind"]
    assert keys_when("KEY↑") == by_key
    terminal.press("s")
    assert keys_when("VALUE↓") == ["wind", *by_key[:5]]
    terminal.press("r")
    assert keys_when("VALUE↑") == [*reversed(by_key[:5]), "wind"]
    terminal.press("S")
    assert keys_when("KEY↑") == by_key
    terminal.press("/")
    terminal.press("-l", "PI[13]*")
    terminal.until_shown("0 of 6 rows", "/PI[13]*▏")
    terminal.press("C-u")
    terminal.press("-l", "pi[13]*")
    terminal.press("Enter")
    assert list(table(terminal.until_shown("2 of 6 rows", "? help"))) == ["pi1.temp", "pi3.temp"]
    # What matches and comes later is shown, too.
    send(server, "plant", reading("pi11.temp", 1.0), reading("pi2.temp", 2.0))
    terminal.until_shown("3 of 7 rows", "pi11.temp")
    terminal.press("/")
    terminal.press("BSpace", "BSpace")
    terminal.until_shown("/pi[13▏", "0 of 7 rows")
    terminal.press("Escape")
    terminal.until_shown("/pi[13]* · ? help", "3 of 7 rows")
    terminal.press("?")
    terminal.until_shown("q, Esc, Ctrl-C   quit")
    terminal.press("Escape")
    terminal.until(lambda lines: "Ctrl-C" not in "\n".join(lines), "help that closes")


def test_rows_scroll(server, terminal):
    send(server, "plant", *(reading(f"k{n:03}", float(n)) for n in range(100)))
    lines = watch(terminal, "plant", 100)
    assert lines[-1].endswith("1–18 of 100")
    for key, place, selected in [
        ("End", "83–100 of 100", "k099"), ("k", "83–100 of 100", "k098"), ("PageUp", "81–98 of 100", "k080"),
        ("Home", "1–18 of 100", "k000"), ("PageDown", "2–19 of 100", "k018"), ("Down", "3–20 of 100", "k019"),
    ]:
        terminal.press(key)

        def scrolled(lines):
            return lines[-1].endswith(place) and lines[-2].startswith(selected)

        terminal.until(scrolled, f"{place}, {selected} selected")


def test_a_pause_holds_the_screen_while_records_come(server, terminal):
    send(server, "plant", reading("pi17.temp", 20.5))
    watch(terminal, "plant")
    terminal.press("p")
    terminal.until_shown("PAUSED")
    send(server, "plant", reading("pi17.temp", 21.5), reading("pi18.temp", 5.0))
    send(server, "plant", reading("pi17.temp", 22.5))
    lines = terminal.until(lambda lines: re.search(r": [23] records came meanwhile", lines[2]), "3 records meanwhile")
    assert table(lines)["pi17.temp"][0] == "20.5" and len(table(lines)) == 1
    terminal.press("Space")
    lines = terminal.until_shown("pi18.temp", "22.5")
    assert table(lines)["pi17.temp"][:2] == ["22.5", "▲+2.0"] and "PAUSED" not in lines[0]


def test_a_resize_is_followed(server, terminal):
    send(server, "plant", *(reading(f"pi{n:02}.temperature", 20.125) for n in range(30)))
    watch(terminal, "plant", 30)
    for columns, rows, shown in [(60, 15, 9), (120, 40, 30), (40, 8, 4), (80, 24, 18)]:
        terminal.resize(columns, rows)
        place = f"1–{shown} of 30"
        lines = terminal.until(lambda lines: len(lines) == rows and lines[-1].endswith(place), place)
        assert live(lines) and len(lines[-1]) == columns, "\n".join(lines)
        assert max(map(len, lines)) <= columns
        # Whatever gives way, the digits do not.
        assert [line for line in lines if "20.125" in line and line.startswith("pi")][shown - 1 :]


def test_a_restarted_server_is_found_again(server, terminal):
    send(server, "plant", reading("pi17.temp", 20.5))
    watch(terminal, "plant")
    server.kill()
    terminal.until_shown("○ reconnecting", "no connection for")
    server.start()
    send(server, "plant", reading("pi17.temp", 21.5))
    lines = terminal.until(lambda lines: live(lines) and "21.5" in "\n".join(lines), "live screen with what came")
    assert re.search(r"reconnected \d×", lines[1]) and "no gaps" in lines[1]
    # A ledger that does not add up would have ended it.
    send(server, "plant", reading("pi17.temp", 22.5))
    terminal.until_shown("22.5")


def test_what_an_unclean_stop_lost_is_shown_as_a_gap(server, terminal):
    with server.channel() as channel:
        immediate = catalog_pb2.VISIBILITY_IMMEDIATE
        server.catalog(channel).CreateFeed(catalog_pb2.CreateFeedRequest(name="plant", visibility=immediate))
    send(server, "plant", reading("pi17.temp", 20.5))
    watch(terminal, "plant")
    server.kill()
    server.start()
    send(server, "plant", reading("pi17.temp", 21.5))
    lines = terminal.until_shown("● live", "21.5", "gaps 1")
    assert re.search(r"gaps 1 \([\d,]+ missed, last lost\)", lines[1])
    assert re.search(r"offsets 1\.\.\d+ .*were lost in an unclean stop", lines[2])


@pytest.mark.parametrize("quit", ["q", "Escape", "C-c", "SIGTERM"])
def test_whoever_quits_finds_the_terminal_as_it_was(server, terminal, quit):
    send(server, "plant", reading("pi17.temp", 20.5))
    before = terminal.run("stty -a > before; echo what was there")
    assert before == ["what was there"]
    watch(terminal, "plant")
    assert (terminal.state("alternate_on"), terminal.state("cursor_flag")) == ("1", "0")
    if quit == "SIGTERM":
        [pid] = terminal.children()
        os.kill(pid, signal.SIGTERM)
    else:
        terminal.press(quit)
    lines = terminal.until(lambda lines: lines[3:4] == [PROMPT.strip()], "prompt")
    assert lines[1:3] == ["what was there", f"{PROMPT}ringfeed watch plant"] and not any(lines[4:])
    assert (terminal.state("alternate_on"), terminal.state("cursor_flag")) == ("0", "1")
    assert terminal.run('echo "code $?"; stty -a > after; cmp before after && echo same') == ["code 0", "same"]


def test_an_error_gives_the_terminal_back_before_it_is_said(server, terminal):
    send(server, "plant", reading("pi17.temp", 20.5))
    watch(terminal, "plant")
    with server.channel() as channel:
        server.catalog(channel).DeleteFeed(catalog_pb2.DeleteFeedRequest(name="plant"))
    lines = terminal.until(lambda lines: PROMPT.strip() in lines, "prompt")
    assert lines[1].startswith("ringfeed: ") and "plant" in lines[1], lines
    assert (terminal.state("alternate_on"), terminal.state("cursor_flag")) == ("0", "1")
    lines = terminal.run("ringfeed watch plant; echo code $?")
    assert "ringfeed feeds list" in lines[0] and lines[-1] == "code 1", lines


def test_names_from_anybody_do_not_drive_the_terminal(server, terminal):
    names = ["a\x1b]0;taken\x07b", "b\x1b[2J\x1b[31m", "c\u202ertl", "d\r\nnext"]
    names += ["e\u0301\u0301\u0301x", "f湿度", "g👍\U0001f3fd☁\ufe0f"]
    texts = [record_pb2.Record(key="t", reading=record_pb2.Reading(text="\x1b[1;1Hhome\x9b5m"))]
    title = terminal.state("pane_title")
    send(server, "plant", *(reading(name, 7.5) for name in names), *texts)
    terminal.resize(120, 24)
    lines = watch(terminal, "plant", len(names) + 1)
    assert terminal.state("pane_title") == title
    rows = [line for line in lines if " 7.5 " in line and not line.startswith(" ")]
    assert len(rows) >= len(names), "\n".join(lines)
    assert lines[0].startswith("plant") and "\\u{1b}[1;1Hhome" in "\n".join(lines)
    # tmux counts cells by itself: each value begins in the same one.
    assert len({cells(row[: row.index(" 7.5 ")]) for row in rows[: len(names)]}) == 1, "\n".join(lines)


def cells(text):
    """How many cells of the terminal it takes."""
    wide = {"W", "F"}
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in wide else 1 for c in text
    )


def test_without_a_terminal_it_says_what_to_use(server):
    refused = ringfeed(server, "watch", "plant")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == "ringfeed: watch needs a terminal: in a pipe use `ringfeed subscribe`\n"


LONG_FEED = "stocks.nasdaq.consolidated-quotes"
LONG_KEY = "alamosa.radiation.shortwave_downwelling_sensor"
LONG_NAME = "gateway-of-the-northern-building-floor-3"
# What each view has to say whole in a pipe.
RECORD = [LONG_KEY, "12345.678901234567 W/m2"]
VIEWS = {
    "subscribe": (f"subscribe {LONG_FEED} --from earliest --until now --format table", RECORD),
    "latest": (f"latest {LONG_FEED} --format table", RECORD),
    "feeds": ("feeds list", [LONG_FEED, "256 MiB"]),
    "producers": ("producers", [LONG_FEED, LONG_NAME]),
    "keys": (f"keys {LONG_FEED}", [LONG_KEY, "Shortwave radiation that comes down, unshaded"]),
    "subscribers": ("subscribers", [LONG_FEED, LONG_NAME]),
}


@pytest.fixture
def full(server):
    """Long names everywhere."""
    records = [reading(LONG_KEY, 12345.678901234567), reading("k", 1.0)]
    with server.channel() as channel:
        upload(server.feeds(channel), batch(LONG_FEED, records, producer=LONG_NAME, first_sequence=1))
        info = catalog_pb2.KeyInfo(unit="W/m2", display_name="Shortwave radiation that comes down, unshaded")
        described = catalog_pb2.SetKeyInfoRequest(feed=LONG_FEED, key=LONG_KEY, info=info)
        server.catalog(channel).SetKeyInfo(described)
        cursor = feed_pb2.Cursor(feed=LONG_FEED, offset=1)
        server.feeds(channel).AcknowledgeCursor(feed_pb2.AcknowledgeCursorRequest(subscriber=LONG_NAME, cursor=cursor))
    return server


@pytest.mark.parametrize("view", VIEWS)
def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(full, terminal, view):
    command, whole = VIEWS[view]
    for columns in (80, 100):
        terminal.resize(columns, 24)
        lines = terminal.run(f"ringfeed {command}")
        assert max(map(len, lines)) <= columns, "\n".join(lines)
        assert len(lines) >= 2 and lines[0] == lines[0].upper(), "\n".join(lines)
    terminal.resize(220, 24)
    wide = "\n".join(terminal.run(f"ringfeed {command}"))
    piped = ringfeed(full, *command.split())
    assert piped.returncode == 0, piped.stderr
    assert "\x1b" not in piped.stdout and "…" not in piped.stdout
    for text in whole:
        assert text in wide and text in piped.stdout, f"{text}\n{wide}\n{piped.stdout}"


def test_without_a_terminal_records_are_json(full):
    for command in ("latest", "subscribe"):
        more = ["--until", "now"] if command == "subscribe" else []
        piped = ringfeed(full, command, LONG_FEED, *more)
        assert [json.loads(line)["key"] for line in piped.stdout.splitlines()] == [LONG_KEY, "k"]
