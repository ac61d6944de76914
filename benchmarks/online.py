"""How long a protector takes for one image, by speed and size. Prints JSON.

    python benchmarks/online.py                             # 32 px and 224 px on this machine, one thread
    python benchmarks/online.py --device cuda --sides 224 --images 200

Networks are untrained: time does not depend on what they know. An image counts from its bytes in a PNG to the bytes of
its protected PNG, in a call of its own; images are protected one after the other.
"""

import argparse
import io
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

import withhold
from withhold.networks.checkpoint import encode
from withhold.networks.choose import Sizes, choose
from withhold.networks.table import build
from withhold.online.folder import GENERATOR, KEY, SURROGATE, Document, new_key, write_folder
from withhold.online.generator import Generator
from withhold.online.loading import processor
from withhold.online.prepare import lanes_for, shape_for
from withhold.online.protector import Protector
from withhold.online.settings import SPEEDS, OnlineSettings

CLASSES = tuple(map(str, range(10)))


def protector_of(side: int, settings: OnlineSettings, folder: Path) -> Protector:
    """Make a protector as `online prepare` would for pictures of this side, with random weights."""
    device = torch.device(settings.device)
    choice = choose(Sizes(side, side), device)
    network = build(choice.architecture, len(CLASSES), input_size=choice.input_size)
    shape = shape_for(settings, len(CLASSES), choice.input_size)
    document = Document(
        version=withhold.__version__,
        torch=str(torch.__version__),
        device=device.type,
        threads=torch.get_num_threads(),
        processor=processor(device.type),
        settings=settings,
        classes=CLASSES,
        input_size=choice.input_size,
        crop_size=choice.input_size if choice.views == "crop" else None,
        lanes=lanes_for(settings, device),
        speeds=settings.speeds(),
        generator=shape,
        surrogate=f"{choice.architecture}, untrained",
    )
    weights = safetensors.torch.save(Generator(shape).state_dict())
    write_folder(folder, document, {SURROGATE: encode([network]), GENERATOR: weights, KEY: new_key()})
    return Protector.load(folder)


def pictures(side: int, count: int) -> list[bytes]:
    """Draw smooth pictures, so that their files are about as large as those of photographs."""
    draw = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = draw.integers(0, 256, (8, 8, 3), np.uint8)
        target = io.BytesIO()
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(target, "PNG")
        files.append(target.getvalue())
    return files


def milliseconds(protector: Protector, files: Sequence[bytes], speed: Any, warm: int) -> dict[str, Any]:  # noqa: ANN401
    """Protect each file alone; the first few only warm up."""
    times = []
    for file in files:
        began = time.perf_counter()
        protector.protect(file, 0, speed=speed)
        times.append(1000 * (time.perf_counter() - began))
    centiles = statistics.quantiles(times[warm:], n=100, method="inclusive")
    return {"images": len(files) - warm, **{f"p{share}_ms": round(centiles[share - 1], 2) for share in (50, 95, 99)}}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--images", type=int, default=50, help="of each size and speed")
    parser.add_argument("--warm", type=int, default=3, help="images in front of these that are not counted")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=None)
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="as quick_steps=8")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = dict(pair.split("=", 1) for pair in args.set)
    settings = OnlineSettings.model_validate({"device": args.device, "lanes": args.lanes, **chosen})
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sides:
            protector = protector_of(side, settings, Path(folder) / str(side))
            document, files = protector.document, pictures(side, args.images + args.warm)
            about = {"side": side, "surrogate": document.surrogate, "input_size": document.input_size}
            for speed in SPEEDS:
                meaning = {"speed": speed, **document.speeds[speed].model_dump(), "lanes": document.lanes}
                cells.append({**about, **meaning, **milliseconds(protector, files, speed, args.warm)})
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.machine()
    result = {
        "machine": name,
        "processor": processor(torch.device(args.device).type),
        "threads": args.threads,
        "torch": torch.__version__,
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "cells": cells,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
