"""Runs what README.md tells people to type, word for word but for the ports."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from harness import BINARY, ROOT, Server

BLOCK = re.compile(r"^( *)```(\w+)(?: (\w+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
COMMAND_SECONDS = 120


def blocks():
    for indent, language, kind, text in BLOCK.findall((ROOT / "README.md").read_text()):
        yield language, kind, re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


@pytest.fixture
def place(server, tmp_path):
    """A working directory that looks like a clone, and a shell that knows the server."""
    work = tmp_path / "clone"
    work.mkdir()
    for name in ("proto", "fixtures", "ringfeed.example.toml"):
        os.symlink(ROOT / name, work / name)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGFEED_")}
    environment = clean | {
        "PATH": f"{BINARY.parent}:{os.environ['PATH']}",
        "RINGFEED_ENDPOINT": f"http://{server.address}",
    }

    def aim(text):
        return text.replace("127.0.0.1:50051", server.address).replace(
            "127.0.0.1:9464", server.metrics
        )

    def run(text):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", aim(text)],
            cwd=work, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS,
        )

    run.work, run.environment, run.aim = work, environment, aim
    return run


def test_every_command_of_the_readme_works(place, server, tmp_path):
    printed = {}
    for language, kind, text in blocks():
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)[1]
            (place.work / name).write_text(place.aim(text))
        elif language == "sh" and kind == "serve":
            serves(text, tmp_path)
        elif language == "sh" and kind == "follow":
            follows(place, text)
        elif language == "sh" and kind == "offline":
            server.terminate()
            shutil.copytree(server.data_dir, place.work / "ringfeed-data")
            printed |= {line: succeed(place, line) for line in text.splitlines()}
        elif language == "sh" and not text.startswith("cargo build"):
            for line in text.splitlines():
                printed[line] = printed.get(line, "") + succeed(place, line)
    assert printed["venv/bin/python upload.py"] == (
        "10 stored, 0 sent before, 0 refused\n0 stored, 10 sent before, 0 refused\n"
    )
    assert printed["venv/bin/python publish.py"] == (
        "number 1 is durable, 1 stored\nnumber 2 is durable, 1 stored\n"
    )
    assert "sound" in printed["ringfeed check ringfeed-data"]
    first = next(line for line in printed if line.startswith("echo '{\"key\""))
    assert "1 stored, offset 0, durable" in printed[first]


def succeed(place, line):
    done = place(line)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
    return done.stdout


def serves(text, tmp_path):
    """The flags as written, but for the ports and the directory."""
    flags = text.split()[2:]
    kept = [flag for flag in flags if flag in ("--plaintext", "--anonymous")]
    host = "0.0.0.0" if "0.0.0.0:50051" in flags else "127.0.0.1"
    with Server(tmp_path / f"readme-{len(flags)}", *kept, listen=f"{host}:0"):
        pass


def follows(place, text):
    process = subprocess.Popen(
        text.split(), cwd=place.work, env=place.environment, stdout=subprocess.PIPE, text=True
    )
    assert '"pi17.temp"' in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(timeout=COMMAND_SECONDS) in (0, 130)
