"""Builds what measures and what is measured."""

import os
import subprocess


def target(root):
    return root / os.environ.get("CARGO_TARGET_DIR", "target")


def harness_path(root):
    return target(root) / "peers/release/peers"


def ringfeed_path(root):
    return target(root) / "release/ringfeed"


def harness(root):
    manifest = root / "benches/peers/Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(manifest)]
    command += ["--target-dir", str(target(root) / "peers")]
    subprocess.run(command, cwd=root, check=True)


def ringfeed(root):
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=root, check=True)
