"""What besides settings and source decides the last bits of a result: PyTorch, the kind of device, the thread count."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from withhold.networks.choose import resolve_devices

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run computes.

    Attributes:
        torch: Version of PyTorch.
        device: Type of the crafting device: `cpu`, `cuda` or `mps`.
        threads: Threads of one PyTorch operation; sums are split among them, and so round differently.
    """

    torch: str
    device: str
    threads: int

    @staticmethod
    def here(device: str, threads: int | None = None) -> "Environment":
        """Describe this process, with the device that the settings name; of several devices they are of one type.

        Args:
            threads: Of each process that will compute; this one's if absent, shared among the devices of a processor.

        Raises:
            InvalidInput: There is no such device.
        """
        devices = resolve_devices(device)
        shared = len(devices) if devices[0].type == "cpu" else 1
        threads = threads or max(1, torch.get_num_threads() // shared)
        return Environment(str(torch.__version__), devices[0].type, threads)

    def differences(self, now: "Environment") -> list[str]:
        """Say what keeps a run that began here from being continued there; the thread count can be set, and is."""
        pairs = [("PyTorch", self.torch, now.torch), ("the type of device", self.device, now.device)]
        return [f"{what} was {before} and is now {after}" for what, before, after in pairs if before != after]


@contextmanager
def reproducing(environment: Environment) -> Iterator[None]:
    """Compute with the thread count of a run and, on CUDA, with deterministic algorithms; put both back afterwards.

    An operation that has no deterministic algorithm still works, and PyTorch warns of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(environment.threads)
    try:
        if environment.device == "cuda":
            with _deterministic():
                yield
        else:
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _deterministic() -> Iterator[None]:
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_WORKSPACE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False  # it picks algorithms by their speed of the day
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # without it cuBLAS does not promise equal results
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            del os.environ[_WORKSPACE]
