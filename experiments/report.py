"""Write RESULTS.md, its figures and the README's table from what was measured, so that no number is typed by hand.

python -m experiments.report
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import mean
from typing import Any, get_args

from benchmarks.report import sections, spread, table

from experiments.faces.report import sections as faces_sections
from experiments.figures import draw_curves, draw_likeness
from experiments.run import HERE, RESULTS, stored, valid
from experiments.specification import Experiment, Release, Size, SizeName, read, units
from withhold.evaluation.countermeasures.table import find

PAGE = HERE.parent / "RESULTS.md"
README = HERE.parent / "README.md"
README_ROWS = {
    "the originals": "the originals",
    "random noise": "originals with random noise of ±8 levels",
    "alignment": "released, alignment (15 steps)",
    "class-targeted": "released, class-targeted (40 steps, the default)",
}
"""Releases of methods.toml, and how the README names them."""

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
    "lpips": "LPIPS",
    "crafting_seconds": "crafting s",
}
DIGITS = {"alignment": 3, "sign_agreement": 3, "ssim": 3, "lpips": 4, "crafting_seconds": 0}
PERCENT = frozenset({"surrogate_on_released"})

LEVEL = 5.0
"""Points of accuracy within which a release counts as worth what its originals are; draws move it by 1 to 2."""


def lines_of(name: str, experiment: Experiment, size: SizeName) -> list[Line]:
    """Read the valid results of an experiment, the newest of each unit; none if it was not run at this size."""
    lines = stored(RESULTS / f"{name}.{size}.jsonl")
    newest = {
        (line["release"], line["countermeasure"], line["network"], line["seed"]): line
        for line in lines
        if valid(line, experiment, experiment.size(size))
    }
    return list(newest.values())


def section(name: str, experiment: Experiment, size: SizeName) -> Iterator[str]:
    """Write one experiment: what was asked, how it was measured, the table, the curves."""
    lines = lines_of(name, experiment, size)
    if not lines:
        return
    images = f"{lines[0]['images']:,} images"
    yield from (f"## {experiment.title} ({images})", "", experiment.question, "")
    yield from (conditions(lines, experiment.size(size)), "")
    yield from by_trial(experiment, lines) if experiment.columns == "trials" else by_measure(experiment, lines)
    yield from failures(experiment, lines)
    figure = RESULTS / f"{name}.{size}.svg"
    draw_curves(shown(lines), figure)
    yield from (f"![Accuracy after each epoch]({figure.relative_to(PAGE.parent).as_posix()})", "")
    likeness = likeness_of(lines)
    if len(likeness) > 1:
        figure = RESULTS / f"{name}.{size}.likeness.svg"
        draw_likeness(likeness, figure)
        yield from (f"![Protection against likeness]({figure.relative_to(PAGE.parent).as_posix()})", "")
    every = sum(1 for _ in units(experiment, size))
    if len(lines) < every:
        yield from (f"{every - len(lines)} of its {every} trainings are still missing.", "")
    options = {"small": " --size small", "cpu": "", "gpu": " --size gpu --device cuda"}[size]
    yield from (f"Reproduce: `python -m experiments.run {name} --data cifar-10-batches-py{options}`.", "")


def conditions(lines: Sequence[Line], size: Size) -> str:
    """State the settings that all lines share."""
    first = lines[0]
    count = f"{10 * size.judge_per_class:,} " if size.judge_per_class else ""
    judge = f"{count}validation images nobody trained on"
    if first["judge"] == "test":
        judge = f"{count}images of the clean CIFAR-10 test set" if count else "the full clean CIFAR-10 test set"
    machines = sorted({f"{line['machine']['device']}, PyTorch {line['machine']['torch']}" for line in lines})
    return (
        f"Accuracy in % on {judge} (re-encoded, mean error 2.2 levels); {first['images']:,} training images; surrogate "
        f"and victim a {size.network} with different draws, {size.epochs} epochs each, and eps 8/255, unless said "
        f"otherwise. Best epoch is an oracle that stops in time. Mean ± sample deviation over seeds. "
        f"{'; '.join(machines)}.{earlier(lines)}"
    )


def earlier(lines: Sequence[Line]) -> str:
    """Say which lines come from an earlier script."""
    origins = sorted({line["origin"] for line in lines if "origin" in line})
    count = sum("origin" in line for line in lines)
    return f" {count} of the {len(lines)} trainings were measured by {' and '.join(origins)}." if origins else ""


def by_measure(experiment: Experiment, lines: Sequence[Line]) -> Iterator[str]:
    """Tabulate one row for each release and trial, with what was measured while crafting."""
    measured = [name for name in MEASURES if any(name in line["measures"] for line in lines)]
    head = ["trained on", "steps", "seeds", "last epoch", "best epoch", *(MEASURES[name] for name in measured)]
    rows = []
    for release in experiment.releases:
        of_release = [line for line in lines if line["release"] == release.name]
        for trial in experiment.trials:
            runs = [line for line in of_release if line["countermeasure"] == trial.countermeasure]
            if runs:
                settings = experiment.settings(release)
                figures = accuracy(runs, "last"), accuracy(runs, "best"), *rest(runs, measured)
                rows.append([release.name, settings.steps if settings else "-", len(runs), *figures])
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


def failures(experiment: Experiment, lines: Sequence[Line]) -> Iterator[str]:
    """Say in words where each method fails: what the best trainer got from it, and who got back half of the loss."""
    if len({line["countermeasure"] for line in lines}) < 2:
        return
    yield from ("### Where the protection fails", "")
    bests = {release.name: best_epochs(release, lines) for release in experiment.releases}
    originals = next((bests[each.name] for each in experiment.releases if each.kind == "original"), {})
    clean = originals.get("none")
    for release in experiment.releases:
        reached = bests[release.name]
        if release.kind != "protected" or not reached:
            continue
        most = max(reached, key=lambda name: reached[name])
        said = f"* **{release.name}** is weakest against {most}: {reached[most]:.1f} % at the best epoch"
        if clean is None or "none" not in reached:
            yield f"{said}."
            continue
        half = (clean + reached["none"]) / 2
        back = sorted((name for name in reached if reached[name] >= half), key=lambda name: -reached[name])
        listed = f": {', '.join(f'{name} ({reached[name]:.1f})' for name in back)}" if back else ""
        yield (
            f"{said}, where training as usual gives {reached['none']:.1f} % and the originals {clean:.1f} %. "
            f"{len(back)} of {len(reached) - 1} countermeasures win back at least half of what was withheld{listed}."
            f"{worth_as_much(reached, originals)}"
        )
    yield ""


def worth_as_much(reached: Mapping[str, float], originals: Mapping[str, float]) -> str:
    """Name the countermeasures under which the originals themselves give hardly more than the release."""
    level = [name for name in reached if name != "none" and reached[name] > originals.get(name, inf) - LEVEL]
    if not level:
        return ""
    each = ", ".join(f"{name} ({reached[name]:.1f} of {originals[name]:.1f})" for name in level)
    return f" Training with these gets what it would get from the originals, within {LEVEL:g} points: {each}."


def best_epochs(release: Release, lines: Sequence[Line]) -> dict[str, float]:
    """Average the best epochs of each trainer who has nothing but the release."""
    bests: dict[str, list[float]] = {}
    for line in lines:
        alone = not find(line["countermeasure"]).outside_data
        if line["release"] == release.name and not line["diverged"] and alone:
            bests.setdefault(line["countermeasure"], []).append(line["best"])
    return {name: mean(values) for name, values in bests.items()}


def likeness_of(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Gather mean accuracy and likeness of each release that was measured for both, by name."""
    points: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(line["release"] for line in lines):
        runs = [line for line in lines if line["release"] == name and "psnr" in line["measures"]]
        if runs:
            kinds = [kind for kind in ("psnr", "ssim", "lpips") if all(kind in run["measures"] for run in runs)]
            points[name] = {kind: mean(run["measures"][kind] for run in runs) for kind in kinds}
            points[name]["accuracy"] = mean(run["best"] for run in runs)
    return points


def shown(lines: Sequence[Line]) -> dict[str, list[list[float]]]:
    """Gather curves under the name of what varies."""
    curves: dict[str, list[list[float]]] = {}
    tried = {line["countermeasure"] for line in lines}
    victims = {line["network"] for line in lines}
    for line in lines:
        if len(tried) > 1 and line["release"] != "class-targeted":
            continue
        what = line["countermeasure"] if len(tried) > 1 else line["release"]
        what += f", {line['network']}" if len(victims) > 1 else ""
        curves.setdefault(what, []).append(line["curve"])
    return curves


def readme_table(lines: Sequence[Line]) -> str:
    """Write the README's table: what a competitor gets from the releases it names."""
    rows = []
    for name, said in README_ROWS.items():
        runs = [line for line in lines if line["release"] == name]
        if runs:
            rows.append([said, *(f"{accuracy(runs, what)} %" for what in ("last", "best")), len(runs)])
    return "\n".join(table(["trained on", "last epoch", "best epoch", "seeds"], rows)).strip()


def write_readme() -> None:
    """Replace the table between the README's two marks."""
    begin, end = "<!-- measured -->", "<!-- /measured -->"
    lines = lines_of("methods", read(HERE / "methods.toml"), "cpu")
    before, _, rest_of_page = README.read_text().partition(begin)
    after = rest_of_page.partition(end)[2]
    README.write_text(f"{before}{begin}\n{readme_table(lines)}\n{end}{after}")


def main() -> None:
    """Write the page and the table."""
    page = [
        "# Results",
        "",
        "Generated by `python -m experiments.report` from the results of experiments and benchmarks; do not edit.",
        "",
    ]
    for name in ORDER:
        for size in get_args(SizeName):
            page += section(name, read(HERE / f"{name}.toml"), size)
    page += [*faces_sections(), *sections()]
    PAGE.write_text("\n".join(page).rstrip() + "\n")
    write_readme()


if __name__ == "__main__":
    main()
