"""Choosing the engine that a user asks for."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.networks.choose import resolve_devices
from withhold.progress import Reporter
from withhold.release.engines.batches import Engine
from withhold.release.engines.local import Local
from withhold.release.engines.options import EngineOptions
from withhold.release.engines.processes import Processes
from withhold.release.reaching import before_work
from withhold.release.settings import ProtectSettings


def engine_on(device: str) -> Engine:
    """Choose the engine of this machine: several devices take a process each.

    Raises:
        InvalidInput: A device is not there, or they are of different types, which compute differently.
    """
    devices = resolve_devices(device)
    types = sorted({each.type for each in devices})
    if len(types) > 1:
        msg = f"devices of one type give one result, and {device!r} names {' and '.join(types)}; name equal ones"
        raise InvalidInput(msg)
    return Local() if len(devices) == 1 else Processes([str(each) for each in devices])


@contextlib.contextmanager
def opened(
    options: EngineOptions, settings: ProtectSettings, places: Sequence[Place], reporter: Reporter
) -> Iterator[tuple[Engine, ProtectSettings]]:
    """Open the engine, before any work.

    Args:
        places: Source and destination, which every machine of a cluster must see.

    Returns:
        The engine, and the settings with the device that it computes on.

    Raises:
        InvalidInput: It is not there, or cannot do what is asked for.
    """
    if options.name == "local":
        yield engine_on(settings.device), settings
        return
    from withhold.release.engines.on_ray import on_ray  # noqa: PLC0415 - an extra

    device = device_of(options, settings)
    with on_ray(options, [_existing(place) for place in places], reporter) as engine:
        yield engine, settings.model_copy(update={"device": device})


def _existing(place: Place) -> Place:
    """Give the nearest folder of a place that is there already."""
    around = place.absolute() if isinstance(place, Path) else place
    candidates: Sequence[Place] = (around, *around.parents)
    with before_work():
        return next((each for each in candidates if each.exists()), place)  # none: no such bucket, which the run says


def device_of(options: EngineOptions, settings: ProtectSettings) -> str:
    """Say on which device the surrogate is trained here: of the type on which the workers then craft.

    Raises:
        InvalidInput: The device that was named is of another type, or this machine has none of the type.
    """
    kind = "cuda" if options.gpus_per_worker else "cpu"
    if settings.device == "auto":
        return str(resolve_devices(kind)[0])
    devices = resolve_devices(settings.device)
    if len(devices) > 1:
        msg = "on Ray, --gpus-per-worker says what each worker has; name one device, on which the surrogate is trained"
        raise InvalidInput(msg)
    if devices[0].type != kind:
        msg = (
            f"the device is {settings.device}, and workers with {options.gpus_per_worker:g} GPUs compute on {kind}; "
            "the surrogate must be trained on the same type: leave out --device, or change --gpus-per-worker"
        )
        raise InvalidInput(msg)
    return settings.device
