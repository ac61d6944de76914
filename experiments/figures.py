"""Figures of the results, as small SVG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

MOST = 10
MARKERS = "osD^v<>PX*"

STYLE = {"svg.hashsalt": "withhold", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}


def draw_curves(curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw the mean accuracy after each epoch for each name; many names are thinned to the ten highest at the end."""
    means = {name: _mean(runs) for name, runs in curves.items() if any(runs)}
    chosen = sorted(means, key=lambda name: -means[name][-1])[:MOST]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for name in chosen:
            axes.plot(np.arange(1, len(means[name]) + 1), means[name], label=name, linewidth=1.3)
        axes.set(xlabel="epoch", ylabel="clean test accuracy, %", ylim=(0, 100))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})


LIKENESS = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS"}


def draw_likeness(points: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw the accuracy at the best epoch of each name against how alike its images are, one panel for each measure."""
    measures = [name for name in LIKENESS if all(name in point for point in points.values())]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(measures) + 1.6, 3.2), layout="constrained")
        for panel, measure in zip(
            figure.subplots(1, len(measures), sharey=True, squeeze=False)[0], measures, strict=True
        ):
            for number, (name, point) in enumerate(points.items()):
                panel.plot(point[measure], point["accuracy"], MARKERS[number % len(MARKERS)], label=name)
            panel.set(xlabel=LIKENESS[measure])
        figure.axes[0].set_ylabel("clean test accuracy, best epoch, %")
        figure.axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _mean(runs: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    whole = [run for run in runs if run]
    shortest = min(map(len, whole))
    averaged: npt.NDArray[np.float64] = np.array([run[:shortest] for run in whole]).mean(axis=0)
    return averaged
