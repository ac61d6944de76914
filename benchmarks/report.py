"""The benchmarks' part of RESULTS.md, from the JSON under benchmarks/results/; see experiments/report.py."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TWO_MINUTES = 120


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


def memory(cell: dict[str, Any]) -> str:
    """Write the resident memory of a service; a short run has no first and last minute that differ."""
    ends = [str(round(value)) for value in cell["rss_mib"].values()]
    return " to ".join(ends) if cell["seconds"] >= TWO_MINUTES else ends[-1]


def service(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Tabulate load on the service; its networks are untrained, as time does not depend on what they know."""
    head = [
        "px",
        "speed",
        "clients",
        "seconds",
        "images",
        "images/s",
        "images/batch",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "failed",
        "MiB",
    ]
    rows = [
        [
            cell["side"],
            cell["speed"],
            document["connections"],
            round(cell["seconds"]),
            cell["requests"],
            cell["images_per_second"],
            cell["images_per_batch"],
            *(round(cell[f"p{share}_ms"]) for share in (50, 95, 99)),
            cell["failed"] + cell["refused"],
            memory(cell),
        ]
        for document in documents
        for cell in document["cells"]
    ]
    first = documents[0]
    return [
        "## The service under load",
        "",
        "`python -m benchmarks.service`: wrk, with a connection for each client, against `withhold serve` with "
        "its ledger in SQLite, on one machine. Latencies are those that a client sees, with the queue. MiB are "
        f"resident, in a long run over its first and its last minute. {first['machine']}, {first['threads']} thread, "
        f"PyTorch {first['torch']}; one of the cores was busy with other work. A CPU crafts one image at a time "
        "unless the protector was prepared with `--lanes`; the rows with 32 clients have 8 lanes.",
        "",
        *table(head, rows),
    ]


def kills(document: dict[str, Any]) -> list[str]:
    """Say what was lost when a service and its database were killed under load."""
    killed = document["kills"]
    answers = ", ".join(f"{count} x {name}" for name, count in sorted(document["answers"].items()))
    rows = [
        ["images sent, each until it was answered", document["images_with_an_answer"]],
        ["of these, jobs that were accepted", document["jobs_accepted"]],
        ["answers with other bytes than without any kill", document["answers_with_other_bytes"]],
        ["lines in the ledger", document["lines_in_the_ledger"]],
        ["seconds until the answer, median", document["median_seconds_to_the_answer"]],
        ["seconds until the answer, longest", document["longest_seconds_to_the_answer"]],
    ]
    return [
        "## The service and its database killed under load",
        "",
        f"`python -m benchmarks.kills`: {document['connections']} clients send images of {document['side']} px at "
        f"speed {document['speed']} for {document['seconds']} s, one half of them as jobs. Meanwhile the service "
        f"got SIGKILL {killed['service']} times, and PostgreSQL ended {killed['database']} times as in a crash. "
        f"Clients try again under the same idempotency key. {document['machine']}.",
        "",
        *table(["", ""], rows),
        f"Answers, those to questions about jobs among them: {answers}.",
        "",
    ]


ENGINES = {
    "local": "this process",
    "ray-1": "Ray, 1 worker",
    "ray-2": "Ray, 2 workers",
    "processes-2": "2 processes",
}


def engines(document: dict[str, Any]) -> list[str]:
    """Tabulate one set protected by each engine."""
    columns = ["images_per_second", "working_seconds", "crafting_seconds", "seconds"]
    rows = [[ENGINES[run["engine"]], *(run[column] for column in columns)] for run in document["runs"]]
    said = {
        "overhead_of_ray": "The overhead of Ray with one worker is {:.1f} %.",
        "efficiency_of_two_workers": "Two workers are {:.1f} % efficient against one.",
        "efficiency_of_two_processes": "Two processes are {:.1f} % efficient against one.",
    }
    shares = [sentence.format(100 * document[name]) for name, sentence in said.items() if name in document]
    same = "All releases have the same bytes." if document["equal_bytes"] else "The releases differ."
    return [
        "## One set, several engines",
        "",
        f"`python -m benchmarks.engines`: {document['images']:,} images of CIFAR-10, {document['steps']} steps of the "
        f"default objective on a ResNet-9 of width 16. {document['machine']}, PyTorch {document['torch']}, nothing "
        "else running. Seconds in all are those of the whole command, with Ray's start and end.",
        "",
        *table(["engine", "images/s", "seconds of work", "of crafting, all workers", "seconds in all"], rows),
        " ".join([*shares, same, "One run of each."]),
        "",
    ]


def scale(document: dict[str, Any]) -> list[str]:
    """Tabulate what the driver of a run needs, by the number of images."""
    rows = [
        [
            f"{int(images):,}",
            f"{size['planning']['batches']:,}",
            round(size["planning"]["bytes_per_image"]["all"]),
            round(size["planning"]["plan"]["seconds"]),
            round(size["planning"]["save"]["peak_mib"]),
            round(sum(size["resuming"][part]["seconds"] for part in ("load", "find_finished", "first_batch"))),
            round(size["resuming"]["first_batch"]["peak_mib"]),
        ]
        for images, size in document["sizes"].items()
    ]
    return [
        "## The driver of a large run",
        "",
        "`python -m benchmarks.scale driver`: the code of a real run, with images that are named and not there and no "
        f"crafting. {document['machine']}. [docs/scale.md](docs/scale.md) has the rest.",
        "",
        *table(
            ["images", "batches", "plan, bytes an image", "planning s", "peak MiB", "resuming s", "peak MiB"],
            rows,
        ),
    ]


def sections() -> list[str]:
    """Write what was measured."""
    lines = []
    if (document := read("gradient.json")) is not None:
        lines += gradient(document)
    if (document := read("overhead.json")) is not None:
        lines += runs("Share of a run spent crafting", document, "`python benchmarks/protect.py overhead`.")
    if (document := read("memory.json")) is not None:
        lines += runs("Memory against the size of the set", document, "`python benchmarks/protect.py memory`.")
    names = ("service.json", "service-long.json", "service-lanes.json")
    loads = [document for name in names if (document := read(name)) is not None]
    if loads:
        lines += service(loads)
    for name, section in {"kills": kills, "engines": engines, "scale": scale}.items():
        if (document := read(f"{name}.json")) is not None:
            lines += section(document)
    return lines
