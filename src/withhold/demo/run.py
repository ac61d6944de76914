"""The demonstration: protect a real image set, train a competitor's model on it, and measure what it is worth."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from withhold.data.atomic import write_atomic
from withhold.demo import SIZE, Size
from withhold.demo.images import TEST, TRAIN, images_of, write_folders
from withhold.demo.photographs import photograph_patches
from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.results import Verdict
from withhold.evaluation.run import evaluate
from withhold.evaluation.settings import EvaluateSettings
from withhold.progress import SILENT, Reporter
from withhold.release.run import protect
from withhold.release.settings import ProtectSettings
from withhold.release.show import show
from withhold.release.verify import verify

RESULT = "demo.json"
MARK = ".withhold-demo"
"""By this file a later demonstration knows the folder as its own, also when the earlier one was interrupted."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What was measured, with everything that led to it.

    Attributes:
        from_original: Clean-test accuracy, in [0, 1], of the competitor trained on the original images.
        from_released: The same, trained on the released images.
        from_noise: The same, trained on the original images with random noise of equal size.
        best_from_released: The same, at the best epoch: what a competitor gets who stops in time.
        chance: Accuracy of guessing.
        report: The whole evaluation, as a page.
        seconds: Wall time of each part.
    """

    data: str
    classes: int
    train_images: int
    test_images: int
    from_original: float
    from_released: float
    from_noise: float
    best_from_released: float
    chance: float
    checked: int
    offenders: int
    largest_change: float
    released: str
    picture: str
    report: str
    settings: dict[str, Any]
    threads: int
    seconds: dict[str, float]


class Parts:
    """The parts of a demonstration, each announced and timed."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, sentence: str) -> Iterator[None]:
        """Announce a part, and note how long the block takes."""
        self._reporter.say(sentence)
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


def demonstrate(
    output: Path,
    data: Path | None = None,
    size: Size = SIZE,
    *,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Demonstration:
    """Run the demonstration into a folder: protect, verify, show and evaluate, as a user would.

    Args:
        output: Gets the images, the release, a before-and-after picture, the report and the result as JSON; must be
            new, empty, or made by an earlier demonstration, which is then replaced.
        data: A dataset with train and test splits, such as the CIFAR-10 python batches; photographs if absent.
        size: How much of it, and for how long.
        seed: Of the patches, the surrogate, the crafting and the sampled picture; the competitor draws otherwise.

    Raises:
        InvalidInput: The folder holds something else, or the data do not suit.
    """
    _clear(output)
    folders = {TRAIN: output / "photos", TEST: output / "test"}
    part = Parts(reporter)
    with part("images", "Cutting patches from photographs." if data is None else f"Taking images from {data}."):
        images = images_of(data, size.images) if data else photograph_patches(size.images, size.test_images, seed)
        write_folders(images, folders)
    settings = ProtectSettings(seed=seed, epochs=size.epochs, steps=size.steps)
    released = output / "released"
    with part("protect", f"Protecting {folders[TRAIN]} with the ordinary protect."):
        protect(folders[TRAIN], released, settings, reporter=reporter)
    with part("verify", "Verifying the release from its files."):
        verification = verify(folders[TRAIN], released, reporter=reporter)
    picture = show(folders[TRAIN], [released], output / "before-after.png", seed=seed)
    competitors = EvaluateSettings(suite="quick", epochs=size.epochs, seed=seed, device="cpu")
    with part("evaluate", "A competitor trains on the originals, on random noise, and on the release."):
        report = output / "report"
        evaluation = evaluate(folders[TRAIN], released, folders[TEST], report, competitors, reporter=reporter)
    result = Demonstration(
        data="photographs of scikit-image" if data is None else data.name,
        classes=len(evaluation.classes),
        train_images=evaluation.data["training images"],
        test_images=evaluation.data["test images"],
        **_accuracies(evaluation.verdict),
        chance=evaluation.chance,
        checked=verification.checked,
        offenders=len(verification.offenders),
        largest_change=float(verification.largest_change),
        released=str(released),
        picture=str(picture),
        report=str(report / "index.html"),
        settings=settings.model_dump(mode="json"),
        threads=torch.get_num_threads(),
        seconds=part.seconds,
    )
    write_atomic(output / RESULT, json.dumps(asdict(result), indent=2).encode())
    return result


def _accuracies(verdict: Verdict) -> dict[str, float]:
    """Name what each training gave."""
    attempts = (verdict.clean, verdict.undefended, verdict.noise)
    lasts = [attempt.last.mean for attempt in attempts if attempt is not None and attempt.last is not None]
    if len(lasts) < len(attempts) or verdict.undefended is None or verdict.undefended.best is None:
        msg = "a competitor's training diverged, so nothing can be compared; run the demonstration with another --seed"
        raise RunStopped(msg)
    names = ("from_original", "from_released", "from_noise")
    return {**dict(zip(names, lasts, strict=True)), "best_from_released": verdict.undefended.best.mean}


def _clear(output: Path) -> None:
    """Remove what an earlier demonstration left; anything else is not touched."""
    ours = ("photos", "test", "released", "released.withhold", "before-after.png", "report", MARK, RESULT)
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        msg = f"{output} holds files that no demonstration made; name a new folder with --output"
        raise InvalidInput(msg)
    for name in ours:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).touch()
