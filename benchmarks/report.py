"""Write RESULTS.md from the JSON under benchmarks/results/, so that no published number is typed by hand.

python benchmarks/report.py > RESULTS.md
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write mean and sample deviation, or a single value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def read(name: str) -> Any:  # noqa: ANN401 - whatever the benchmark printed
    """Read a result, or None if it was not measured."""
    path = RESULTS / name
    if not path.exists():
        return None
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


JUDGES = {
    "test": "the full clean CIFAR-10 test set",
    "validation": "5,000 training images that neither surrogate nor victim saw (defaults were chosen on these)",
}


def effect(title: str, cells: Sequence[dict[str, Any]]) -> list[str]:
    """Tabulate what a competitor gets."""
    first = cells[0]
    rows = []
    for method in dict.fromkeys(cell["method"] for cell in cells):
        runs = [cell for cell in cells if cell["method"] == method]

        def over(key: str, runs: Sequence[dict[str, Any]] = runs) -> str:
            values = [run[key] for run in runs if key in run]
            return spread(values, 3 if key in {"alignment", "sign_agreement"} else 1) if values else "-"

        columns = ("last", "best", "surrogate_accuracy_on_released", "alignment", "sign_agreement", "crafting_seconds")
        rows.append([method, len(runs), *map(over, columns)])
    rows.sort(key=lambda row: str(row[2]), reverse=True)
    head = [
        "trained on",
        "seeds",
        "last epoch",
        "best epoch",
        "surrogate on it",
        "alignment",
        "signs agree",
        "crafting s",
    ]
    return [
        f"## {title}",
        "",
        f"Accuracy in % on {JUDGES[first['judge']]}; {first['images']:,} training images, "
        f"eps {first['eps']}, surrogate and victim a ResNet-9 of width 16, initialised and trained with different "
        f"draws. {first['recipe']}. CIFAR-10 re-encoded (mean error 2.2 levels), {first['machine']}, PyTorch "
        f'{first["versions"]["torch"]}. "Best epoch" is an oracle that stops at the best test accuracy. Mean and '
        "sample deviation over seeds; a single seed has no deviation. `alignment` is the cosine with the direction in "
        "use (class-targeted: the batch's own).",
        "",
        *table(head, rows),
        "Reproduce: `python benchmarks/effect.py --data cifar-10-batches-py --output effect.jsonl`.",
        "",
    ]


def gradient(document: dict[str, Any]) -> list[str]:
    """Tabulate exactness and cost of the alignment gradient."""
    exact = document["exactness"]
    exact_rows = [
        [name, *(f"{values[key]:.2g}" for key in keys), *(f"{100 * values[key]:.3f} %" for key in signs)]
        for keys, signs in [
            (
                ["largest_relative_difference_float64", "largest_relative_difference_float32"],
                ["equal_signs_float32", "equal_signs_folded_float32"],
            )
        ]
        for name, values in exact.items()
    ]
    costs = document["cost"]
    kinds = list(next(iter(costs.values()))["input_gradients"])
    cost_rows = [[kind, *(costs[name]["input_gradients"][kind] for name in costs)] for kind in kinds]
    return [
        "## The alignment gradient",
        "",
        f"Short cut (forward mode, one reverse pass) against double backward. {document['machine']}, PyTorch "
        f"{document['torch']}.",
        "",
        *table(["network", "rel. difference, float64", "float32", "equal signs, float32", "folded"], exact_rows),
        f"Cost in plain input gradients, batch {next(iter(costs.values()))['batch']}, medians of interleaved runs:",
        "",
        *table(["gradient", *costs], cost_rows),
        "`alignment_gradient` is one forward-mode and reverse pass for a given direction (the decoupled step); the",
        "joint step adds one `weight_gradient` for the cosine. Reproduce: `python benchmarks/gradient.py`.",
        "",
    ]


def runs(title: str, document: dict[str, Any], note: str) -> list[str]:
    """Tabulate whole runs."""
    measured = [run for size in document["runs"].values() for run in size]
    return [
        f"## {title}",
        "",
        f"{note} {document['machine']}, PyTorch {document['torch']}.",
        "",
        *table(list(measured[0]), [list(run.values()) for run in measured]),
        *([f"Peak growth: {100 * document['peak_growth']:.1f} %.", ""] if "peak_growth" in document else []),
    ]


def main() -> None:
    """Print the page."""
    lines = ["# Results", "", "Generated by `python benchmarks/report.py` from `benchmarks/results/`; do not edit.", ""]
    if (cells := read("effect.jsonl")) is not None:
        lines += effect("What a competitor gets", cells)
    if (cells := read("views.jsonl")) is not None:
        lines += effect("Choosing the views", cells)
    if (document := read("gradient.json")) is not None:
        lines += gradient(document)
    if (document := read("overhead.json")) is not None:
        lines += runs("Share of a run spent crafting", document, "`python benchmarks/protect.py overhead`.")
    if (document := read("memory.json")) is not None:
        lines += runs("Memory against the size of the set", document, "`python benchmarks/protect.py memory`.")
    print("\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
