"""What `withhold serve` takes under load, by speed and size, with wrk as its client. Prints JSON.

    python -m benchmarks.service                                    # 32 px and 224 px, each speed for 20 s
    python -m benchmarks.service --sides 32 --speeds instant --seconds 600    # is memory flat?
    python -m benchmarks.service --sides 32 --lanes 8 --connections 32        # several images crafted together

Networks are untrained: time does not depend on what they know. The service, its ledger in SQLite and wrk share the
machine. Every connection sends its next image when it has the answer to its last one.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.online import pictures, protector_of
from withhold.online.ledger import Ledger, default_url
from withhold.online.settings import SPEEDS, OnlineSettings

HERE = Path(__file__).parent
BOUNDARY = "withhold-load"
BODIES = 50
SAMPLE = 5.0
"""Seconds between two looks at the memory of the service."""

EDGE = 12
"""Looks at each end of a run that are compared."""


def body(picture: bytes, speed: str) -> bytes:
    """Write a form with one image."""
    fields = [
        b'Content-Disposition: form-data; name="label"\r\n\r\n0',
        b'Content-Disposition: form-data; name="speed"\r\n\r\n' + speed.encode(),
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + picture,
    ]
    mark = b"--" + BOUNDARY.encode()
    return b"".join(mark + b"\r\n" + field + b"\r\n" for field in fields) + mark + b"--\r\n"


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """Start the service on a free port; give its address and process id."""
    command = [str(Path(sys.executable).with_name("withhold")), "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            started = next(line for line in map(json.loads, process.stderr) if line["event"] == "listening")
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or a full pipe would stop it
            yield f"http://127.0.0.1:{started['port']}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """Note the resident memory of a process in MiB until the block ends."""
    noted: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            noted.append(int(found[1]) / 1024)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield noted
    finally:
        over.set()
        watcher.join()


def batches(url: str) -> tuple[float, float]:
    """Read how many batches there were, and how many images in them."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    count, total = (re.search(rf"^withhold_batch_images_{what} (\S+)", text, re.M) for what in ("count", "sum"))
    assert count is not None
    assert total is not None
    return float(count[1]), float(total[1])


def load(url: str, token: str, bodies: Path, seconds: int, connections: int) -> dict[str, Any]:
    """Let wrk send images, and return what it saw."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(HERE / "load.lua")]
    command += ["-H", f"Authorization: Bearer {token}", "-H", f"Content-Type: multipart/form-data; boundary={BOUNDARY}"]
    command += [f"{url}/v1/protect", "--", str(bodies), str(BODIES)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seen: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return seen


def cell(url: str, pid: int, token: str, bodies: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one speed and size."""
    load(url, token, bodies, 3, args.connections)  # to warm up
    before = batches(url)
    with memory_of(pid) as noted:
        seen = load(url, token, bodies, args.seconds, args.connections)
    count, images = (after - earlier for after, earlier in zip(batches(url), before, strict=True))
    ends = {"first": noted[:EDGE], "last": noted[-EDGE:]} if noted else {}
    return {
        **seen,
        "images_per_second": round((seen["requests"] - seen["refused"]) / seen["seconds"], 2),
        "images_per_batch": round(images / count, 2),
        "rss_mib": {name: round(statistics.mean(values), 1) for name, values in ends.items()},
    }


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--speeds", nargs="+", choices=SPEEDS, default=SPEEDS)
    parser.add_argument("--seconds", type=int, default=20, help="for each size and speed")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--lanes", type=int, help="images that are crafted together, if not the default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    cells = []
    for side in args.sides:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "protector"
            settings = OnlineSettings(device=args.device, lanes=args.lanes)
            surrogate = protector_of(side, settings, folder).document.surrogate
            ledger = Ledger.open(default_url(folder))
            token = ledger.add_client("load", images_per_day=None, pairs=None)
            ledger.close()
            with serving(folder) as (url, pid):
                for speed in args.speeds:
                    bodies = Path(place) / speed
                    bodies.mkdir()
                    for number, picture in enumerate(pictures(side, BODIES)):
                        (bodies / str(number)).write_bytes(body(picture, speed))
                    measured = cell(url, pid, token, bodies, args)
                    cells.append({"side": side, "speed": speed, "surrogate": surrogate, **measured})
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{os.cpu_count()} cores"
    about = {"machine": f"{platform.machine()}, {name}", "threads": args.threads, "connections": args.connections}
    print(json.dumps({**about, "torch": torch.__version__, "cells": cells}, indent=1))


if __name__ == "__main__":
    main()
