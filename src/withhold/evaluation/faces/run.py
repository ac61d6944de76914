"""`evaluate --task faces`: from originals, release and clean pictures to a report of who is recognised by whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withhold.data.arrays import centre_crop, colour
from withhold.errors import InvalidInput
from withhold.evaluation.estimate import Estimate
from withhold.evaluation.faces.attempts import attempts_of
from withhold.evaluation.faces.data import (
    FEWEST_PEOPLE,
    FaceSets,
    check_people,
    load_faces,
    open_others,
    uniform_side,
)
from withhold.evaluation.faces.elsewhere import Given
from withhold.evaluation.faces.estimate import estimate
from withhold.evaluation.faces.harness import FaceHarness, Pretrainer
from withhold.evaluation.faces.pairs import read_pairs
from withhold.evaluation.faces.report.write import write_face_report
from withhold.evaluation.faces.results import FaceCell, FaceEvaluation, FaceResult
from withhold.evaluation.faces.scenarios.scenario import Scenario
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.faces.sheet import draw_sheet
from withhold.evaluation.faces.suites import cells_of, scenarios_of
from withhold.evaluation.faces.verdict import judge
from withhold.evaluation.folder import claimed
from withhold.evaluation.jobs import Workers, workers
from withhold.evaluation.likeness import compare
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.matching import Chosen, Part, Sources, choose_images, other_release
from withhold.evaluation.report.write import CSV, JSON, PAGE
from withhold.evaluation.store import ResultFiles
from withhold.evaluation.training import environment
from withhold.evaluation.trainings import Trainings
from withhold.evaluation.verdict import counted
from withhold.networks.choose import Sizes, choose_for_faces
from withhold.networks.margins import LOSSES, margin_of
from withhold.networks.table import build
from withhold.progress import SILENT, Reporter

DEFAULTS = FaceSettings()

PRETRAINED = "pretrained"
FILES = (PAGE, JSON, CSV, PRETRAINED)
"""What an evaluation of faces leaves in its folder."""

ONNX = ".onnx"
MARGINS = "pytorch_metric_learning"
PROBED = 4
"""Pictures that a given recogniser is tried on before any work."""


@dataclass(frozen=True, slots=True)
class FaceSources:
    """Where the pictures of an evaluation of faces lie.

    Attributes:
        originals: The dataset as it was before protection, by identity.
        released: Its release.
        test: Other clean pictures of the same people.
        pairs: CSV of pairs of other people; see `faces.pairs`.
        others: Clean pictures of other people, by identity.
        extractor: A recogniser trained elsewhere; see `networks.extractor.open_extractor`.
        also: Other releases of the same originals, for the sheet.
    """

    originals: Path
    released: Path
    test: Path
    pairs: Path | None = None
    others: Path | None = None
    extractor: str | None = None
    also: tuple[Path, ...] = ()

    @property
    def folders(self) -> list[Path]:
        """List the datasets."""
        others = [] if self.others is None else [self.others]
        return [self.originals, self.released, self.test, *others, *self.also]


def evaluate_faces(
    originals: Path,
    released: Path,
    test: Path,
    output: Path,
    settings: FaceSettings = DEFAULTS,
    *,
    pairs: Path | None = None,
    others: Path | None = None,
    extractor: str | None = None,
    also: Sequence[Path] = (),
    reporter: Reporter = SILENT,
) -> FaceEvaluation:
    """Let competitors come to recognisers of published faces in every scenario, measure them, and write a report.

    Pictures are aligned faces, squares of one size, by identity. Each training is kept in `output` as soon as it is
    finished; the same call after a crash or an interrupt trains only what is missing, and so does one that asks for
    more.

    Args:
        originals: The pictures as they were before protection.
        released: Their release.
        test: Other clean pictures of the same people, which are looked up.
        output: Folder for the report; new, empty, or one of an earlier evaluation. It shows originals beside released
            pictures and must stay private.
        pairs: CSV of pairs of pictures of people outside the originals, for verification and as distractors.
        others: Clean pictures of further people, by identity, that competitors own; if absent a seeded half of the
            identities plays them where a scenario needs some, and only the other half is then published and looked up.
        extractor: A recogniser trained elsewhere, in place of one trained on other people.
        also: Other releases of the same originals, drawn on the sheet.

    Raises:
        InvalidInput: An argument or a dataset is unusable; no training was begun.
        RunStopped: The run cannot go on; finished trainings are kept.
    """
    sources = FaceSources(originals, released, test, pairs, others, extractor, tuple(also))
    with claimed(output, sources.folders, FILES, reporter) as cells:
        with workers(settings, reporter) as where:
            evaluation = _evaluate(sources, cells, output / PRETRAINED, settings, where, reporter=reporter)
        reporter.say(f"Report: {write_face_report(evaluation, output)}")
        return evaluation


def _evaluate(
    sources: FaceSources, cells: Path, pretrained: Path, settings: FaceSettings, where: Workers, *, reporter: Reporter
) -> FaceEvaluation:
    scenarios = scenarios_of(settings)
    for head in settings.heads:
        margin_of(head)
    lpips = Lpips.load(Path(settings.lpips)) if settings.lpips else None
    pairs = read_pairs(sources.pairs) if sources.pairs else None
    chosen = choose_images(Sources(sources.originals, sources.released, sources.test), settings)
    check_people(chosen)
    others = open_others(sources.others, chosen.classes) if sources.others else None
    size = uniform_side(chosen)
    side = settings.input_size or size
    network = _network(settings, side, len(chosen.classes), where, reporter)
    planned = cells_of(settings, scenarios, network, Path(sources.extractor).name if sources.extractor else None)
    listed, not_tried = _possible(planned, sources, settings, len(chosen.classes))
    given = _given(sources, chosen, side, where.devices[0])
    also = [other_release(chosen, place, settings.splits) for place in sources.also]
    likeness = compare(chosen, lpips, reporter)
    sets = load_faces(chosen, others, pairs, side=side, size=size, bound=likeness.bound, seed=settings.seed)
    if given is not None:
        _try_out(given[0], sets, where.devices[0])
    people = draw_sheet(chosen, also, count=settings.pictures, seed=settings.seed) if settings.pictures else ()
    harness = FaceHarness(sets, settings, network, pretrained, where.devices[0], given)
    _say_crowds(harness, reporter)
    attempts = attempts_of(_train(listed, harness, where, cells, reporter))
    return FaceEvaluation(
        settings=settings.model_dump(mode="json"),
        data=_about(sources, sets, likeness.bound),
        identities=chosen.classes,
        attempts=attempts,
        verdict=judge(attempts, not_tried),
        quality=likeness.quality,
        pictures=people,
        environment=environment(where.devices[0]),
    )


def _network(settings: FaceSettings, side: int, people: int, where: Workers, reporter: Reporter) -> str:
    """Choose the network, and build it once, so that a wrong name or size fails before any work."""
    device = where.devices[0]
    name = settings.network
    if name == "auto":
        name = choose_for_faces(Sizes(side, side), device).architecture
    build(name, people, input_size=side)
    reporter.say(f"Competitors train {name} on whole aligned faces of {side} px, on {device.type}.")
    return name


def _given(sources: FaceSources, chosen: Chosen, side: int, device: torch.device) -> tuple[Given, str] | None:
    """Open the recogniser that the user gave and try it on some pictures.

    Raises:
        InvalidInput: It cannot be used, or its embeddings are not finite.
    """
    if sources.extractor is None:
        return None
    given = Given(sources.extractor, side)
    return given, given.digest(given.extractor(device).embed(_some(chosen.test, side)))


def _try_out(given: Given, sets: FaceSets, device: torch.device) -> None:
    """Embed every picture that a recogniser from elsewhere will see.

    Raises:
        InvalidInput: Some embedding is not finite.
    """
    extractor = given.extractor(device)
    pictures = [part.images for part in (sets.original, sets.noise, sets.released, sets.test)]
    for images in [*pictures, *([sets.pairs.images] if sets.pairs else [])]:
        extractor.embed(images)


def _some(part: Part, side: int) -> Tensor:
    """Read some pictures of a part, (n, 3, side, side), uint8."""
    whole = centre_crop(side, 1.0)
    read = [whole(colour(picture), np.zeros(5)) for picture in part.pictures(np.arange(min(PROBED, len(part))))]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous()


def _say_crowds(harness: FaceHarness, reporter: Reporter) -> None:
    """Name the numbers of distractors that are more than there are."""
    pairs, taken = harness.sets.pairs, harness.crowds()
    if pairs is not None and len(taken) < len(harness.settings.distractors):
        left = [f"{count}" for count in harness.settings.distractors if count not in taken]
        reporter.say(
            f"The pairs have {len(pairs.images)} pictures, so there is no crowd of {', '.join(left)} strangers."
        )


def _possible(
    cells: Sequence[FaceCell], sources: FaceSources, settings: FaceSettings, people: int
) -> tuple[list[FaceCell], list[str]]:
    """Leave out what lacks people, gradients or a package; say what and why.

    Raises:
        InvalidInput: The user named such a scenario.
    """
    scenarios = {cell.scenario: _lacking(find(cell.scenario), sources, people) for cell in cells}
    lacking = {name: reason for name, reason in scenarios.items() if reason}
    for name in settings.scenarios:
        if name in lacking:
            msg = f"cannot try {name}: {lacking[name]}"
            raise InvalidInput(msg)
    absent = {cell.head for cell in cells if cell.head in LOSSES} if find_spec(MARGINS) is None else set()
    reasons = [f"{name} ({reason})" for name, reason in lacking.items()]
    reasons += [f"{head} (install it with: pip install 'withhold[faces]')" for head in sorted(absent)]
    return [cell for cell in cells if cell.scenario not in lacking and cell.head not in absent], reasons


def _lacking(scenario: Scenario, sources: FaceSources, people: int) -> str | None:
    given = sources.extractor is not None
    own = scenario.needs_releases or sources.others is None
    if scenario.needs_people(extractor=given) and own and people < 2 * FEWEST_PEOPLE:
        remedy = "" if scenario.needs_releases else ", or give --others"
        return f"half of the {people} people stand for others, which takes {2 * FEWEST_PEOPLE} or more{remedy}"
    if sources.extractor is not None and scenario.takes_extractor and scenario.fine_tuned and _scores_only(sources):
        return f"{sources.extractor} can only score, not be trained"
    return None


def _scores_only(sources: FaceSources) -> bool:
    return Path(sources.extractor or "").suffix == ONNX


def _train(
    listed: Sequence[FaceCell], harness: FaceHarness, where: Workers, cells: Path, reporter: Reporter
) -> list[FaceResult]:
    """Run the cells that have no stored result, and before them the trainings on other people that these need."""

    def expected(pending: Sequence[FaceCell]) -> Estimate:
        return estimate(pending, harness, where)

    trainings = Trainings(harness, where, ResultFiles[FaceCell, FaceResult](cells, FaceResult), expected, _line)
    needed = {task for cell in trainings.pending(listed) if (task := harness.pretraining(cell))}
    missing = sorted(task for task in needed if not harness.weights(task).is_file())
    if missing:
        reporter.say(f"{counted(len(missing), 'training')} on other people first.")
        reporter.start("Training on other people", len(missing), "trainings")
        for _ in where.run(missing, Pretrainer(harness, harness.device)):
            reporter.advance()
        reporter.finish()
    return trainings.run(listed, reporter)


def _line(result: FaceResult) -> str:
    if result.diverged or result.identification is None:
        return f"{result.cell.name}: diverged"
    return f"{result.cell.name}: rank-1 {result.identification.rank1:.1%}, {result.seconds:.0f} s"


def _about(sources: FaceSources, sets: FaceSets, bound: int) -> dict[str, Any]:
    drawn = "a seeded half of the people, whom only the scenarios that need them take out of the release"
    return {
        "originals": str(sources.originals),
        "released": str(sources.released),
        "test": str(sources.test),
        "pairs": str(sources.pairs) if sources.pairs else None,
        "other people": str(sources.others) if sources.others else drawn,
        "extractor": sources.extractor,
        "people": len(sets.identities),
        "training pictures": len(sets.original),
        "test pictures": len(sets.test),
        "number of pairs": len(sets.pairs.pairs) if sets.pairs else 0,
        "pictures in pairs": len(sets.pairs.images) if sets.pairs else 0,
        "input size": sets.side,
        "largest change in levels": bound,
        "sha256": sets.digests,
    }
