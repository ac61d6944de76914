"""Write RESULTS.md and its figures from the results of experiments and benchmarks, so that no number is typed by hand.

python -m experiments.report
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from benchmarks.report import sections, spread, table

from experiments.figures import draw_curves
from experiments.run import HERE, RESULTS
from experiments.specification import Experiment, Size, read

PAGE = HERE.parent / "RESULTS.md"
SizeName = Literal["cpu", "gpu"]
ORDER = (
    "methods",
    "countermeasures",
    "direction",
    "strength",
    "steps",
    "surrogate",
    "transfer",
    "share",
    "regularisers",
    "views",
)

Line = dict[str, Any]

MEASURES = {
    "surrogate_on_released": "surrogate on it",
    "alignment": "alignment",
    "sign_agreement": "signs agree",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "crafting_seconds": "crafting s",
}
DIGITS = {"alignment": 3, "sign_agreement": 3, "ssim": 3, "crafting_seconds": 0}
PERCENT = frozenset({"surrogate_on_released"})


def lines_of(name: str, size: SizeName) -> list[Line]:
    """Read the results of an experiment; none if it was not run at this size."""
    path = RESULTS / f"{name}.{size}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def section(name: str, experiment: Experiment, size: SizeName) -> Iterator[str]:
    """Write one experiment: what was asked, how it was measured, the table, the curves."""
    lines = lines_of(name, size)
    if not lines:
        return
    yield from (f"## {experiment.title}", "", experiment.question, "")
    yield from (conditions(lines, experiment.size(size)), "")
    yield from by_trial(experiment, lines) if experiment.columns == "trials" else by_measure(experiment, lines)
    yield from strongest(experiment, lines)
    figure = RESULTS / f"{name}.{size}.svg"
    draw_curves(shown(experiment, lines), figure)
    yield from (f"![Accuracy after each epoch]({figure.relative_to(PAGE.parent).as_posix()})", "")
    missing = expected(experiment, experiment.size(size)) - len(lines)
    if missing > 0:
        yield from (f"{missing} of its {missing + len(lines)} trainings are still missing.", "")
    device = " --size gpu --device cuda" if size == "gpu" else ""
    yield from (f"Reproduce: `python -m experiments.run {name} --data cifar-10-batches-py{device}`.", "")


def conditions(lines: Sequence[Line], size: Size) -> str:
    """State the settings that all lines share."""
    first = lines[0]
    judge = "the full clean CIFAR-10 test set" if first["judge"] == "test" else "validation images nobody trained on"
    machines = sorted({f"{line['machine']['device']}, PyTorch {line['machine']['torch']}" for line in lines})
    return (
        f"Accuracy in % on {judge} (re-encoded, mean error 2.2 levels); {first['images']:,} training images; surrogate "
        f"and victim a {size.network} with different draws, {size.epochs} epochs each, and eps 8/255, unless said "
        f"otherwise. Best epoch is an oracle that stops in time. Mean ± sample deviation over seeds. "
        f"{'; '.join(machines)}."
    )


def by_measure(experiment: Experiment, lines: Sequence[Line]) -> Iterator[str]:
    """Tabulate one row for each release and trial, with what was measured while crafting."""
    measured = [name for name in MEASURES if any(name in line["measures"] for line in lines)]
    head = ["trained on", "seeds", "last epoch", "best epoch", *(MEASURES[name] for name in measured)]
    rows = []
    for release in experiment.releases:
        of_release = [line for line in lines if line["release"] == release.name]
        for trial in experiment.trials:
            runs = [line for line in of_release if line["countermeasure"] == trial.countermeasure]
            if runs:
                rows.append(
                    [release.name, len(runs), accuracy(runs, "last"), accuracy(runs, "best"), *rest(runs, measured)]
                )
    yield from table(head, rows)


def rest(runs: Sequence[Line], measured: Sequence[str]) -> list[str]:
    """Format the measures of some runs."""
    columns = []
    for name in measured:
        scale = 100 if name in PERCENT else 1
        values = [scale * run["measures"][name] for run in runs if name in run["measures"]]
        columns.append(spread(values, DIGITS.get(name, 1)) if values else "-")
    return columns


def by_trial(experiment: Experiment, lines: Sequence[Line]) -> Iterator[str]:
    """Tabulate trials against releases: last epoch, with the best epoch in brackets."""
    releases = [release.name for release in experiment.releases if any(li["release"] == release.name for li in lines)]
    rows = []
    for trial in experiment.trials:
        cells = []
        for release in releases:
            runs = [line for line in lines if line["release"] == release and matches(line, trial, experiment)]
            cells.append(f"{accuracy(runs, 'last')} ({accuracy(runs, 'best')})" if runs else "")
        if any(cells):
            rows.append([trial.network or trial.countermeasure, *cells])
    yield from table(["", *releases], rows)


def matches(line: Line, trial: Any, experiment: Experiment) -> bool:  # noqa: ANN401 - a Trial
    """Tell whether a line is of a trial."""
    names_network = any(each.network for each in experiment.trials)
    same = not names_network or line["network"] == trial.network
    return bool(same and line["countermeasure"] == trial.countermeasure)


def accuracy(runs: Sequence[Line], what: str) -> str:
    """Format accuracies, leaving out diverged runs but not their number."""
    values = [run[what] for run in runs if not run["diverged"]]
    failed = len(runs) - len(values)
    text = spread(values) if values else "diverged"
    return f"{text}, {failed} diverged" if failed and values else text


def strongest(experiment: Experiment, lines: Sequence[Line]) -> Iterator[str]:
    """Say in words where each method fails: the best that any trainer got from it."""
    if len({line["countermeasure"] for line in lines}) < 2:
        return
    own = ("dilution", "clean")
    for release in experiment.releases:
        runs = [
            li
            for li in lines
            if li["release"] == release.name and not li["diverged"] and not li["countermeasure"].startswith(own)
        ]
        if release.kind == "protected" and runs:
            best = max(runs, key=lambda line: line["best"])
            plain = [line["last"] for line in runs if line["countermeasure"] == "none"]
            alone = f", against {spread(plain)} % without any" if plain else ""
            how = f"fails against {best['countermeasure']}: {best['best']:.1f} % at its best epoch{alone}."
            yield f"* **{release.name}** {how}"
    yield ""


def shown(experiment: Experiment, lines: Sequence[Line]) -> dict[str, list[list[float]]]:
    """Gather curves under the name of what varies."""
    curves: dict[str, list[list[float]]] = {}
    several = len(experiment.trials) > 1
    for line in lines:
        if several and line["release"] != "class-targeted" and experiment.columns == "trials":
            continue
        what = line["countermeasure"] if several else line["release"]
        curves.setdefault(what, []).append(line["curve"])
    return curves


def expected(experiment: Experiment, size: Size) -> int:
    """Count the trainings of a whole experiment."""
    return len(experiment.releases) * len(experiment.trials) * len(size.seeds)


def main() -> None:
    """Write the page."""
    page = [
        "# Results",
        "",
        "Generated by `python -m experiments.report` from the results of experiments and benchmarks; do not edit.",
        "",
    ]
    for name in ORDER:
        for size in get_args(SizeName):
            page += section(name, read(HERE / f"{name}.toml"), size)
    page += sections()
    PAGE.write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    main()
