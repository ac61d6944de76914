"""The private folder beside a release: plan, surrogate, state of the run, manifest, and the release being built."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from withhold.data.place import Place
from withhold.errors import InvalidInput

SUFFIX = ".withhold"
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
"""How `atomic_file` names what is not finished."""


def beside(destination: Place) -> Path:
    """Name the private folder of a release: beside it on a disk; in the current folder for one in an object store."""
    if isinstance(destination, Path):
        return destination.with_name(destination.name + SUFFIX)
    return Path.cwd() / f"{'-'.join(destination.parts)}{SUFFIX}"


class Sidecar:
    """The paths in `<destination>.withhold`, which is never a part of the release and always on a local disk.

    Args:
        destination: The release.
        root: The folder itself; see `beside` for where it is if absent.

    Attributes:
        root: The folder itself.
        plan_table, plan_document: The plan; the document is written last.
        surrogate: Weights that crafting used, so that a resumed run uses the same.
        batches: One Parquet file per finished batch; its presence says that the batch need not be crafted again.
        spool: The writer's own files.
        staging: The release while it is being built on disk; renamed to the destination once it was verified.
        manifest: Which released image came from which original, with measurements.
    """

    def __init__(self, destination: Place, root: Path | None = None) -> None:
        self.destination = destination
        self.root = root or beside(destination)
        self.plan_table = self.root / "plan.parquet"
        self.plan_document = self.root / "plan.json"
        self.surrogate = self.root / "surrogate.safetensors"
        self.batches = self.root / "batches"
        self.spool = self.root / "spool"
        self.staging = self.root / "release"
        self.manifest = self.root / "manifest.parquet"
        self._lock = self.root / "lock"
        self._holder = self.root / "holder.json"

    @property
    def building(self) -> Place:
        """Where the release is built: an object store has no renames, so there it is built where it will stay."""
        return self.staging if isinstance(self.destination, Path) else self.destination

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

    def has_work(self) -> bool:
        """Say whether anything is there that took effort to make; without it a plan binds nobody."""
        return self.surrogate.exists() or self.manifest.exists() or bool(self.finished())

    def foreign(self) -> list[str]:
        """Name what no run put here: all but the first files of one, as long as there is no plan."""
        if self.plan_document.exists() or not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if not self._is_of_a_beginning(path))

    def _is_of_a_beginning(self, path: Path) -> bool:
        return path in {self._lock, self._holder, self.plan_table} or bool(_PARTIAL.fullmatch(path.name))

    def _forget_plan(self) -> None:
        self.forget_batches()
        self.plan_document.unlink(missing_ok=True)

    def _remove(self) -> None:
        """Delete the first files of a run, and the folder if nothing else is in it."""
        for path in self.root.iterdir():
            if self._is_of_a_beginning(path):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run; it is created if need be.

        It is removed again if the run made no plan, or was refused before it had made anything worth keeping.

        Raises:
            InvalidInput: Another run holds it; the message says which process on which machine since when.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # it helps to undo protection
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
        except InvalidInput:
            if not self.has_work():
                self._forget_plan()
            raise
        finally:
            self._holder.unlink(missing_ok=True)
            if not self.plan_document.exists():
                self._remove()
            lock.release()

    def _describe_holder(self) -> str:
        with suppress(OSError, ValueError, KeyError):
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f": process {holder['process']} on {holder['host']}, started {holder['started']}"
        return ""
