"""Where the batches of a run are worked off, as users say it. PyTorch and Ray are not needed to say so."""

from dataclasses import dataclass
from typing import Literal

from withhold.cluster import check_gpus
from withhold.errors import InvalidInput

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """An engine and what it is given.

    Attributes:
        name: This machine's processes, or workers on a Ray cluster.
        address: Of a cluster, HOST:PORT of its head or `auto`; None starts one on this machine.
        workers: Processes on the cluster that craft; None is as many as fit on it.
        gpus_per_worker: May be a fraction, so that several workers share a GPU.

    Raises:
        InvalidInput: A number is out of range, or something is given that the engine has no use for.
    """

    name: EngineName = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.name == "local" and (self.address is not None or self.workers is not None or self.gpus_per_worker):
            msg = (
                "address, workers and GPUs per worker are for Ray: give --engine ray too, or leave them out; several "
                "GPUs of this machine are named as --device cuda:0,cuda:1"
            )
            raise InvalidInput(msg)
        if self.workers is not None and self.workers < 1:
            msg = f"at least 1 worker is needed, got {self.workers}"
            raise InvalidInput(msg)
        check_gpus(self.gpus_per_worker)
