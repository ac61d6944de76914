"""A whole dataset through a protector: the images come out as they would have one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from withhold.data.dataset import Dataset
from withhold.data.pixels import Picture
from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.online.protector import Protector
from withhold.online.settings import DEFAULT_SPEED, FREE, SpeedName, check_free
from withhold.progress import SILENT, Reporter
from withhold.release.crafting import Crafted, Shown
from withhold.release.dry_run import Estimate, Prepared, estimate
from withhold.release.materials import Materials
from withhold.release.run import DEFAULTS, ProtectReport, run
from withhold.release.scan import enumerate_some
from withhold.release.settings import ProtectSettings


@dataclass(frozen=True, slots=True, eq=False)
class ProtectorCrafter:
    """A protector in the place of a crafter; the seeds of a run have no part in it.

    Attributes:
        classes: Of the dataset; each is one of the protector's.
        steps: In place of the speed's own, for an estimate of the time.
    """

    protector: Protector
    speed: SpeedName
    classes: Sequence[str]
    steps: int | None = None

    def on(self, device: str) -> "ProtectorCrafter":
        """Return itself: a protector computes where it was loaded."""
        assert device == self.protector.device, f"loaded for {self.protector.device}, not {device}"
        return self

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:  # noqa: ARG002
        """Craft each picture by itself; the losses are those of the pictures as they are released."""
        known = self.protector.classes
        labels = [known.index(self.classes[show]) for show in shown if isinstance(show, int)]
        deltas = self.protector.craft(pictures, labels, self.speed, steps=self.steps)
        released = [
            picture.perturbed(delta, self.protector.bound) for picture, delta in zip(pictures, deltas, strict=True)
        ]
        return Crafted(deltas, self.protector.losses(released, labels), [float("nan")] * len(pictures))


def protect_with(
    source: Place | str,
    destination: Place | str,
    protector: Protector,
    settings: ProtectSettings = DEFAULTS,
    *,
    speed: SpeedName = DEFAULT_SPEED,
    reporter: Reporter = SILENT,
    private: Path | None = None,
) -> ProtectReport:
    """Protect a dataset with a protector; see `withhold.release.run.protect`.

    Args:
        settings: Says which images are released, and in which format; the protector has the rest.

    Raises:
        InvalidInput: A setting is one that the protector fixes, or the dataset has a class that it does not know; and
            as `protect` raises.
        RunStopped: As `protect` raises.
    """

    def make(materials: Materials) -> ProtectorCrafter:
        return ProtectorCrafter(protector, speed, materials.dataset.classes)

    known = f"{protector.fingerprint}/{speed}"
    combined, check = settings_with(protector, settings), partial(check_classes, protector)
    return run(source, destination, combined, make, reporter, fingerprint=known, check=check, private=private)


def dry_run_with(
    source: Place | str,
    destination: Place | str,
    protector: Protector,
    settings: ProtectSettings = DEFAULTS,
    *,
    speed: SpeedName = DEFAULT_SPEED,
    reporter: Reporter = SILENT,
    private: Path | None = None,
) -> Estimate:
    """Plan what `protect_with` would do, and estimate its time and disk space; see `withhold.release.dry_run.dry_run`.

    Raises:
        InvalidInput: What `protect_with` would refuse.
        RunStopped: The release would not fit on the disk.
    """
    steps = protector.document.speeds[speed].steps

    def prepare(materials: Materials) -> Prepared:
        crafter = ProtectorCrafter(protector, speed, materials.dataset.classes)
        return Prepared(lambda count: replace(crafter, steps=count) if steps else crafter, None)

    # Without steps an image takes as long as the probe's first call; with one step that is all that counts.
    combined = settings_with(protector, settings).model_copy(update={"steps": max(1, steps)})
    check = partial(check_classes, protector)
    return estimate(source, destination, combined, prepare, reporter, check=check, private=private)


def check_classes(protector: Protector, dataset: Dataset) -> None:
    """Refuse a dataset with a class that the protector does not know.

    Raises:
        InvalidInput: Names such classes.
    """
    unknown = [name for name in dataset.classes if name not in protector.classes]
    if unknown:
        msg = (
            f"the protector knows {len(protector.classes)} classes, and not {enumerate_some(unknown, 5)}; prepare "
            "one from images of all classes."
        )
        raise InvalidInput(msg)


def settings_with(protector: Protector, settings: ProtectSettings) -> ProtectSettings:
    """Combine the settings that a protector was prepared with, and those that it leaves to a run.

    Images are released in the protector's lossless format unless the run chooses one.

    Raises:
        InvalidInput: A setting is one that the protector fixes.
    """
    check_free(settings)
    document = protector.document
    own = document.settings.model_dump(include=set(ProtectSettings.model_fields), exclude={*FREE} - {"lossless"})
    chosen = settings.model_dump(include=settings.model_fields_set)
    return ProtectSettings.model_validate({**own, **chosen, "device": protector.device})
