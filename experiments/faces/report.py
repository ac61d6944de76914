"""The part of RESULTS.md on faces."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import spread, table

from experiments.faces.run import HERE, key, told_apart
from experiments.faces.specification import ORIGINALS, SIZES, FaceExperiment, FaceSize, read, units
from experiments.run import RESULTS, stored
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.results import RELEASED

Line = dict[str, Any]
ORDER = ("identities", "losses", "extractors", "scenarios")
HEAD = (
    "published",
    "seeds",
    "rank-1",
    "best epoch",
    "rank-5",
    "rank-1, clean gallery",
    "rank-1, 700 distractors",
    "verification",
    "AUC",
    "EER",
)


def sections(results: Path = RESULTS) -> Iterator[str]:
    """Write every experiment on faces that has results."""
    for name in ORDER:
        experiment = read(HERE / f"{name}.toml")
        for size in SIZES:
            lines = stored(results / f"faces-{name}.{size}.jsonl")
            if lines:
                yield from section(name, experiment, experiment.size(size), lines, size)


def section(name: str, experiment: FaceExperiment, size: FaceSize, lines: Sequence[Line], called: str) -> Iterator[str]:
    """Write one experiment: what was asked, how it was measured, and a table for each way to train."""
    newest = {told_apart(line): line for line in lines}
    first = lines[0]
    machines = sorted({f"{line['machine']['device']}, PyTorch {line['machine']['torch']}" for line in lines})
    yield from (f"## {experiment.title}", "", experiment.question, "")
    yield (
        f"LFW, aligned crops of 112 px, {first['pictures']:,} published pictures, {size.network} unless said "
        "otherwise. Rates in %. Rank-1: clean test pictures looked up in a gallery of templates, the means of the "
        "published pictures. Best epoch: the most of the templates and the trained head at its best epoch. "
        "Verification: accuracy by the LFW protocol on pairs of other people; guessing gives 50. Mean \u00b1 sample "
        "deviation over seeds. "
        f"{'; '.join(machines)}."
    )
    yield ""
    for trial in experiment.trials:
        way = trial.scenario, trial.head, trial.network or size.network
        of_trial = [line for line in newest.values() if (line["scenario"], line["head"], line["network"]) == way]
        if of_trial:
            people = of_trial[0]["identities"]
            yield from (f"**{', '.join(way)}**; {people} people are looked up, guessing gives {100 / people:.1f}", "")
            yield from table(HEAD, [row(release, of_trial) for release in published(experiment, of_trial)])
    expected = {told_apart(unit) for unit in expected_lines(experiment, size)}
    missing = len(expected - set(newest))
    if missing:
        yield from (f"{missing} of its {len(expected)} trainings are still missing.", "")
    options = "" if called == "cpu" else " --size gpu --device cuda"
    yield from (f"Reproduce: `python -m experiments.faces.run {name} --data lfw{options}`.", "")


def expected_lines(experiment: FaceExperiment, size: FaceSize) -> Iterator[Line]:
    """Name the lines that a whole experiment has, but for random noise, which is named for its bound."""
    for unit in units(experiment, size):
        materials = find(unit.trial.scenario).materials
        yield {**key(unit, size), "release": ORIGINALS}
        if RELEASED in materials:
            yield key(unit, size)


def published(experiment: FaceExperiment, lines: Sequence[Line]) -> list[str]:
    """List what was published: the controls, then the releases in the order of the file."""
    there = dict.fromkeys(line["release"] for line in lines)
    releases = [release.name for release in experiment.releases]
    return [*(name for name in there if name not in releases), *(name for name in releases if name in there)]


def row(release: str, lines: Sequence[Line]) -> list[object]:
    """Summarise the recognisers that were trained on one release, over their seeds."""
    runs = [line for line in lines if line["release"] == release]
    whole = [line for line in runs if not line["diverged"]]
    crowd = [dict(map(tuple, line["crowd"])).get(700) for line in whole]
    figures = (
        [[line[kind] for line in whole] for kind in ("rank1", "best", "rank5", "clean_gallery_rank1")]
        + [crowd]
        + [[line[kind] for line in whole] for kind in ("accuracy", "auc", "eer")]
    )
    return [release, len(runs), *(percent(values) for values in figures)]


def percent(values: Sequence[float | None]) -> str:
    """Write rates in percent; a dash where nothing was measured."""
    known = [100 * value for value in values if value is not None]
    return spread(known) if known else "-"
