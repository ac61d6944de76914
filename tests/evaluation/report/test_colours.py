import re
from itertools import pairwise

import pytest
from tests.evaluation.report.samples import evaluation

from withhold.evaluation.report.colours import contrast, shade
from withhold.evaluation.report.heat import heat
from withhold.evaluation.report.page import HERE

STEPS = [step / 500 for step in range(501)]


def rgb(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#777777", "#ffffff", 4.478),
        ("#ff0000", "#ffffff", 3.998),
        ("#123456", "#123456", 1),
    ],
)
def test_contrast_is_that_of_the_guidelines(one: str, other: str, expected: float) -> None:
    assert contrast(rgb(one), rgb(other)) == pytest.approx(expected, abs=1e-3)
    assert contrast(rgb(other), rgb(one)) == pytest.approx(expected, abs=1e-3)


def test_text_is_readable_on_every_colour_of_the_scale() -> None:
    for colours in map(shade, STEPS):
        assert contrast(rgb(colours.light), rgb(colours.light_ink)) >= 4.5
        assert contrast(rgb(colours.dark), rgb(colours.dark_ink)) >= 4.5


def test_lightness_alone_tells_values_apart() -> None:
    black = (0, 0, 0)
    light = [contrast(rgb(shade(value).light), black) for value in STEPS[::10]]
    dark = [contrast(rgb(shade(value).dark), black) for value in STEPS[::10]]
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)
    assert min(abs(one - other) for one, other in pairwise(light)) > 0.02


@pytest.mark.parametrize(("outside", "end"), [(-3.0, 0.0), (1.7, 1.0)])
def test_what_lies_outside_the_scale_gets_its_end(outside: float, end: float) -> None:
    assert shade(outside) == shade(end)


def test_guessing_and_the_originals_are_the_ends_of_the_scale() -> None:
    table = heat(evaluation())
    assert table.chance.shade == shade(0)
    originals = next(row for group in table.groups for row in group.rows if row.name == "originals")
    best = [cell.best for cell in originals.cells if cell is not None and cell.best is not None]
    assert max(best, key=lambda value: value.exact).shade == shade(1)


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("name", ["ink", "soft", "plain", "strong"])
def test_text_colours_of_the_page_are_readable(scheme: int, name: str) -> None:
    roots = re.findall(r":root \{([^}]*)\}", (HERE / "style.css").read_text())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[scheme]))
    for ground in ("paper", "card"):
        assert contrast(rgb(colours[name]), rgb(colours[ground])) >= 4.5
    assert contrast(rgb(colours["ink"]), rgb(colours["warn-ground"])) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1])
def test_curves_stand_out_from_the_page(scheme: int) -> None:
    roots = re.findall(r":root \{([^}]*)\}", (HERE / "style.css").read_text())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[scheme]))
    for name in ("original", "noise", "plain", "strong", "c2", "c3", "c4", "c5"):
        assert contrast(rgb(colours[name]), rgb(colours["paper"])) >= 3
