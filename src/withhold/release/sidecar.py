"""The private folder beside a release: plan, surrogate, state of the run, manifest, and the release being built."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from withhold.errors import InvalidInput

SUFFIX = ".withhold"


class Sidecar:
    """The paths in `<destination>.withhold`, which is never a part of the release.

    Attributes:
        root: The folder itself.
        plan_table, plan_document: The plan; the document is written last.
        surrogate: Weights that crafting used, so that a resumed run uses the same.
        batches: One Parquet file per finished batch; its presence says that the batch need not be crafted again.
        spool: The writer's own files.
        staging: The release while it is being built; renamed to the destination once it was verified.
        manifest: Which released image came from which original, with measurements.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.root = destination.with_name(destination.name + SUFFIX)
        self.plan_table = self.root / "plan.parquet"
        self.plan_document = self.root / "plan.json"
        self.surrogate = self.root / "surrogate.safetensors"
        self.batches = self.root / "batches"
        self.spool = self.root / "spool"
        self.staging = self.root / "release"
        self.manifest = self.root / "manifest.parquet"
        self._lock = self.root / "lock"
        self._holder = self.root / "holder.json"

    def record(self, batch: int) -> Path:
        """Name the file that records a finished batch."""
        return self.batches / f"{batch:06d}.parquet"

    def finished(self) -> set[int]:
        """List the batches that need not be crafted again."""
        return {int(path.stem) for path in self.batches.glob("*.parquet")}

    def forget_batches(self) -> None:
        """Delete everything that crafting made, so that it is made again."""
        self.manifest.unlink(missing_ok=True)
        for folder in (self.batches, self.spool, self.staging):
            shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """Delete what a published release no longer needs."""
        for folder in (self.batches, self.spool):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run; it is created if need be, and removed again if the run never made a plan.

        Raises:
            InvalidInput: Another run holds it; the message says which process on which machine since when.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            msg = (
                f"another run is at work on {self.destination}{self._describe_holder()}; wait for it, or stop it first."
            )
            raise InvalidInput(msg) from None
        try:
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
            self._holder.write_text(json.dumps(holder), encoding="utf-8")
            yield
        finally:
            self._holder.unlink(missing_ok=True)
            if not self.plan_document.exists():
                shutil.rmtree(self.root, ignore_errors=True)
            lock.release()

    def _describe_holder(self) -> str:
        with suppress(OSError, ValueError, KeyError):
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f": process {holder['process']} on {holder['host']}, started {holder['started']}"
        return ""
