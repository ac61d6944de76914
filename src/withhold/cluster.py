"""Joining a Ray cluster, or starting one on this machine. Ray is an extra, imported when a cluster is asked for."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from withhold.errors import InvalidInput
from withhold.version import __version__

LOOPBACK = "127.0.0.1"
WITHIN = 5.0
"""Seconds within which the head of a cluster must accept a connection."""

ANSWERED_WITHIN = 120.0
"""Seconds within which a machine must say what it has; the first call on it starts a process and imports PyTorch."""

LEAST_SHARE = 0.0001
"""Of a GPU; Ray counts in these."""

QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Ray keeps the logs of its processes in a folder of its own; stderr is for what we say."""


def library() -> Any:  # noqa: ANN401 - a module
    """Import Ray.

    Raises:
        InvalidInput: It is not installed.
    """
    # Ray reads them when it is imported. Under `uv run` it would start each worker through uv again; and it would send
    # usage reports.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError:
        msg = "a cluster needs Ray, which is not installed; run `pip install 'withhold[cluster]'` on every machine"
        raise InvalidInput(msg) from None
    return ray


@contextlib.contextmanager
def joined(address: str | None, cpus: int, say: Callable[[str], None] = lambda _: None) -> Iterator[Any]:
    """Join a cluster, or start one on this machine that ends with the block.

    Args:
        address: HOST:PORT of its head, or `auto`; None starts one.
        cpus: Processors that a cluster on this machine is to have.

    Returns:
        The module `ray`.

    Raises:
        InvalidInput: There is none at the address, or Ray is not installed.
    """
    if address is not None:
        check_reachable(address)
    ray = library()
    try:
        if address is None:
            say("Starting Ray on this machine, which takes a while.")
            _stay_on_this_machine()
            ray.init("local", include_dashboard=False, num_cpus=cpus, _node_ip_address=LOOPBACK, **QUIET)
        else:
            say(f"Joining the Ray cluster at {address}.")
            ray.init(address, **QUIET)
    except (ConnectionError, ray.exceptions.RayError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        msg = f"no Ray cluster at {address or 'this machine'}: {reason.rstrip('.')}; start one with `ray start`"
        raise InvalidInput(msg) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_gpus(gpus: float, *, kind: str = "worker") -> None:
    """Refuse numbers of GPUs that Ray gives nobody.

    Raises:
        InvalidInput: It is neither a share of one GPU nor a whole number of them.
    """
    if not (LEAST_SHARE <= gpus <= 1 or (gpus >= 0 and gpus.is_integer())):
        msg = f"a {kind} has a share of one GPU, at least {LEAST_SHARE}, or a whole number of them; got {gpus:g}"
        raise InvalidInput(msg)


def check_room(resources: Mapping[str, float], gpus: float, *, least: int = 1, kind: str = "worker") -> int:
    """Count the workers that fit on a cluster, each with a processor.

    Args:
        resources: As Ray states them.
        gpus: Of each worker; may be a fraction.
        least: Number without which there is no point in starting.

    Raises:
        InvalidInput: There are fewer.
    """
    processors, there = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    room = int(min(processors, there / gpus) if gpus else processors)
    if room < least:
        needs = f"a processor and {gpus:g} GPUs" if gpus else "a processor"
        msg = (
            f"each {kind} needs {needs}, and the cluster has {processors:g} processors and {there:g} GPUs: room for "
            f"{room}, not for {least}. Add machines, or ask for less"
        )
        raise InvalidInput(msg)
    return room


def check_machines(ray: Any, facts: Callable[..., Mapping[str, str]], *arguments: object) -> None:  # noqa: ANN401
    """Refuse machines of a cluster on which something is otherwise than on this one.

    Args:
        ray: The module, joined to the cluster.
        facts: Called here and on each machine with the arguments; names what must be the same. See `versions`.

    Raises:
        InvalidInput: Names the machines, and what they lack.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - an extra

    own = facts(*arguments)
    asked = {
        ray.remote(facts)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(*arguments): node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"]
    }
    unfit = []
    for reference, address in asked.items():
        try:
            found = ray.get(reference, timeout=ANSWERED_WITHIN)
        except (ray.exceptions.RayError, TimeoutError) as error:
            unfit.append(f"{address} cannot run Withhold ({reason_of(error)})")
        else:
            unfit += [
                f"{address} has {name} {found[name]}, not {own[name]}" for name in own if found[name] != own[name]
            ]
    if unfit:
        msg = (
            f"{unfit[0]} ({len(unfit)} findings); every machine of the cluster needs the same versions, and the same "
            "files at the same paths"
        )
        raise InvalidInput(msg)


def versions() -> dict[str, str]:
    """Name the versions that results depend on."""
    import torch  # noqa: PLC0415 - the help of `withhold serve` imports this module

    return {"Withhold": __version__, "PyTorch": str(torch.__version__)}


def reason_of(error: BaseException) -> str:
    """Give the one line that says what went wrong in another process."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(cause).__name__


def check_reachable(address: str) -> None:
    """Try an address, for which Ray itself would wait for minutes; `auto` is left to Ray.

    Raises:
        InvalidInput: It is no HOST:PORT, or nothing listens there.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()) or "/" in host:
        msg = f"{address!r} is no address of a Ray cluster; give HOST:PORT of its head, such as 10.0.0.1:6379, or auto"
        raise InvalidInput(msg)
    try:
        socket.create_connection((host.strip("[]"), int(port)), WITHIN).close()
    except (OSError, OverflowError) as error:
        msg = f"no Ray cluster at {address}: {error}; is its head running, and is the port reachable from here?"
        raise InvalidInput(msg) from error


def _stay_on_this_machine() -> None:
    """Have a cluster that is started from now on listen on the loopback address only.

    Ray would put another address of the machine in place of 127.0.0.1, except where clusters of several machines are
    switched off. It read the variable when it was imported; its processes read it when they start.
    """
    from ray._private import ray_constants  # noqa: PLC0415 - an extra

    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
