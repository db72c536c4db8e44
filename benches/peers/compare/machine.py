"""What the figures were measured on, and with which versions."""

import json
import os
import subprocess
import time

from . import alone, tools


def describe(root, place):
    alone.loopback_up()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": said(["git", "-C", str(root), "describe", "--always", "--dirty"]),
        "machine": {
            "cores": os.cpu_count(),
            "processor": field("/proc/cpuinfo", "model name"),
            "memory_kib": int(field("/proc/meminfo", "MemTotal").split()[0]),
            "kernel": os.uname().release,
            "filesystem": said(["stat", "-f", "-c", "%T", str(place.data)]),
            "load": os.getloadavg()[0],
        },
        "versions": {
            "ringfeed": said([str(place.ringfeed), "--version"]),
            **tools.versions(place.tools),
            "rustc": said(["rustc", "--version"]),
        },
        "disk_before": disk(place),
    }


def disk(place):
    command = [place.harness, "disk", "--data", place.data]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def said(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"


def field(path, name):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "0"
