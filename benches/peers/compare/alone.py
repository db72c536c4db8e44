"""A network namespace with nothing but loopback: s2-lite listens on every interface, and no
server of a run should be reachable from elsewhere."""

import fcntl
import os
import socket
import struct
import subprocess
import sys

MARK = "PEERS_ALONE"
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def is_alone():
    return MARK in os.environ


def begin():
    """Starts this script again in a namespace of its own, where the system lets us."""
    for unshare in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
        try:
            if subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
                os.environ[MARK] = "1"
                os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])
        except FileNotFoundError:
            break
    print("no network namespace to be had: s2-lite will listen on every interface", file=sys.stderr)
    os.environ[MARK] = "0"


def loopback_up():
    if os.environ.get(MARK) != "1":
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
