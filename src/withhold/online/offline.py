"""A whole dataset through a protector: the images come out as they would have one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from withhold.data.dataset import Dataset
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.online.protector import Protector
from withhold.online.settings import SpeedName
from withhold.progress import SILENT, Reporter
from withhold.release.crafting import Crafted, Shown
from withhold.release.run import Materials, ProtectReport, run
from withhold.release.scan import enumerate_some
from withhold.release.settings import ProtectSettings

FREE = ("splits", "skip_unreadable", "lossless", "batch_size")
"""Settings of `protect` that a protector leaves to the run."""


@dataclass(frozen=True, slots=True, eq=False)
class ProtectorCrafter:
    """A protector in the place of a crafter; the seeds of a run have no part in it.

    Attributes:
        classes: Of the dataset; each is one of the protector's.
    """

    protector: Protector
    speed: SpeedName
    classes: Sequence[str]

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:  # noqa: ARG002
        """Craft each picture by itself; the losses are those of the pictures as they are released."""
        known = self.protector.classes
        labels = [known.index(self.classes[show]) for show in shown if isinstance(show, int)]
        deltas = self.protector.craft(pictures, labels, self.speed)
        released = [
            picture.perturbed(delta, self.protector.bound) for picture, delta in zip(pictures, deltas, strict=True)
        ]
        return Crafted(deltas, self.protector.losses(released, labels), [float("nan")] * len(pictures))


def protect_with(
    source: Path,
    destination: Path,
    protector: Protector,
    settings: ProtectSettings | None = None,
    *,
    speed: SpeedName = "full",
    reporter: Reporter = SILENT,
) -> ProtectReport:
    """Protect a dataset with a protector; see `withhold.release.run.protect`.

    Args:
        settings: Of these only what says which images are released, and in which format; the protector has the rest.

    Raises:
        InvalidInput: The dataset has a class that the protector does not know; and as `protect` raises.
        RunStopped: As `protect` raises.
    """

    def check(dataset: Dataset) -> None:
        unknown = [name for name in dataset.classes if name not in protector.classes]
        if unknown:
            msg = (
                f"the protector knows {len(protector.classes)} classes, and not {enumerate_some(unknown, 5)}; prepare "
                "one from images of all classes."
            )
            raise InvalidInput(msg)

    def make(materials: Materials) -> ProtectorCrafter:
        return ProtectorCrafter(protector, speed, materials.dataset.classes)

    known = f"{protector.fingerprint}/{speed}"
    return run(source, destination, settings_with(protector, settings), make, reporter, fingerprint=known, check=check)


def settings_with(protector: Protector, settings: ProtectSettings | None) -> ProtectSettings:
    """Combine the settings that a protector was prepared with, and those that it leaves to a run."""
    document = protector.document
    own = document.settings.model_dump(include=set(ProtectSettings.model_fields), exclude={"device"})
    free = (settings or document.settings).model_dump(include=set(FREE))
    return ProtectSettings.model_validate({**own, **free, "device": document.device})
