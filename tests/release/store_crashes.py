"""Run as a program: protect a dataset in a store, and kill this process just before it writes one of its objects.

Arguments: source, destination, private folder, how many objects are written first.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.release.fakes import make_uniform, settings

from withhold.data.object_path import ObjectPath
from withhold.release.run import run


def kill_before(number: int) -> None:
    done, lock = count(), threading.Lock()

    def deadly(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:  # noqa: ANN401
            with lock:
                if next(done) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args)

        return counting

    for name in ("write_bytes", "upload"):
        setattr(ObjectPath, name, deadly(getattr(ObjectPath, name)))


if __name__ == "__main__":
    kill_before(int(sys.argv[4]))
    run(sys.argv[1], sys.argv[2], settings(batch_size=4), make_uniform, private=Path(sys.argv[3]))
