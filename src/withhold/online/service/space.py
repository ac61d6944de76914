"""How many bytes the files of jobs take, those among them that are yet to be written."""

from collections.abc import Mapping
from threading import Lock


class Space:
    """Bytes of files of jobs. Several threads may use it."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[str, int]] = {}
        self._lock = Lock()

    @property
    def taken(self) -> int:
        """Count the bytes of all files."""
        with self._lock:
            return sum(sum(sizes.values()) for sizes in self._sizes.values())

    def count(self, job: str, sizes: Mapping[str, int]) -> None:
        """Count files of a job by their names, each instead of what was counted for it before."""
        with self._lock:
            self._sizes.setdefault(job, {}).update(sizes)

    def forget(self, job: str, name: str) -> None:
        """Count a file no more."""
        with self._lock:
            self._sizes.get(job, {}).pop(name, None)

    def forget_all(self, job: str) -> None:
        """Count no file of a job any more."""
        with self._lock:
            self._sizes.pop(job, None)
