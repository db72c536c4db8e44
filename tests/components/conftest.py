"""Generates the Python client from proto/ alone, and starts real servers for the tests."""

import pathlib
import sys
import tempfile

import grpc
import pytest
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
GENERATED = tempfile.TemporaryDirectory(prefix="ringfeed-proto-")


def generate():
    files = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    out = GENERATED.name
    arguments = [f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={out}"]
    failed = protoc.main(["protoc", *arguments, f"--grpc_python_out={out}", *files])
    assert failed == 0, "protoc did not take proto/"
    sys.path.insert(0, out)


generate()

from harness import Server  # noqa: E402 - it needs the generated code


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def feeds(server):
    with server.channel() as channel:
        yield server.feeds(channel)


@pytest.fixture
def catalog(server):
    with server.channel() as channel:
        yield server.catalog(channel)


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel
