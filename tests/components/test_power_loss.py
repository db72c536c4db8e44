"""Power loss, simulated: the file system is shut down without its log being flushed, so what was
not on the disk is gone, unlike after a mere kill. Needs root and loop devices."""

import fcntl
import os
import random
import struct
import subprocess
import threading
import time

import pytest
from harness import CALL_SECONDS, TORTURE, Server, batch, readings, stored
from ringfeed.v1 import catalog_pb2

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
ROUNDS = 40 if TORTURE else 6
BATCH = 50


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, home):
        self.image, self.path = home / "disk.img", home / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(400 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)

    def mount(self):
        command = ["mount", "-o", "loop", self.image, self.path]
        return subprocess.run(command, capture_output=True, text=True)

    def cut(self):
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def unmount(self):
        subprocess.run(["umount", self.path], check=True)


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    disk = Disk(tmp_path)
    mounted = disk.mount()
    if mounted.returncode != 0:
        pytest.skip(f"no loop device can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk.path], check=False, capture_output=True)


def test_what_was_acknowledged_survives_a_power_cut(disk):
    """One database carried through all rounds, cut at random moments of an upload, the first ones
    while it is young."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        server = Server(disk.path / "data")
        server.start()
        try:
            durable = upload_until_the_cut(server, disk, chance.uniform(0.02, 0.5))
        finally:
            server.kill()
        disk.unmount()
        assert disk.mount().returncode == 0
        with Server(disk.path / "data") as server, server.channel() as channel:
            numbers = stored(server.feeds(channel), "sensors").numbers if durable else []
            assert len(numbers) >= durable, f"{durable} were acknowledged"
            assert numbers == [float(i) for i in range(len(numbers))]


def upload_until_the_cut(server, disk, seconds):
    """Uploads from the start, as a device without a memory would; answers how many records
    GetProducer called durable before the power went."""
    cut = threading.Event()

    def messages():
        first = 0
        while not cut.is_set():
            yield batch("sensors", readings(BATCH, first=first), "pi17", first + 1)
            first += BATCH

    with server.channel() as channel:
        call = server.feeds(channel).Ingest.future(messages(), timeout=CALL_SECONDS)
        catalog = server.catalog(channel)
        time.sleep(seconds)
        durable = durable_sequence(catalog)
        disk.cut()
        server.kill()
        cut.set()
        assert call.exception() is not None
    return durable


def durable_sequence(catalog):
    listed = catalog.ListProducers(catalog_pb2.ListProducersRequest(), timeout=CALL_SECONDS)
    return max((p.durable_sequence for p in listed.producers), default=0)
