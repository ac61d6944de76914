import pytest

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.table import COUNTERMEASURES
from withhold.evaluation.results import Cell
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.suites import SUITES, cells_of


def test_the_suites_name_existing_countermeasures_and_start_with_none() -> None:
    for names in SUITES.values():
        assert names[0] == "none"
        assert set(names) <= set(COUNTERMEASURES)
    assert set(SUITES["full"]) == set(COUNTERMEASURES)


def test_controls_come_first_and_every_seed_and_network_has_them() -> None:
    cells = cells_of(EvaluateSettings(suite="quick", seeds=2, seed=5), ["resnet9", "vit"])
    assert cells[:3] == [
        Cell("original", "none", "resnet9", 5),
        Cell("noise", "none", "resnet9", 5),
        Cell("released", "none", "resnet9", 5),
    ]
    assert len(set(cells)) == len(cells) == 12
    assert {(cell.network, cell.seed) for cell in cells if cell.material == "original"} == {
        ("resnet9", 5),
        ("vit", 5),
        ("resnet9", 6),
        ("vit", 6),
    }


def test_the_full_suite_has_partly_protected_releases_with_their_controls() -> None:
    materials = {cell.material for cell in cells_of(EvaluateSettings(suite="full"), ["resnet9"])}
    assert {"released-20", "rest-20", "released-80", "rest-80"} <= materials


def test_named_countermeasures_replace_the_suite() -> None:
    cells = cells_of(EvaluateSettings(countermeasures=("jpeg-10",)), ["resnet9"])
    assert [(cell.material, cell.countermeasure) for cell in cells] == [
        ("original", "none"),
        ("noise", "none"),
        ("released", "jpeg-10"),
    ]


@pytest.mark.parametrize(("names", "said"), [(("jpg-10",), "jpeg-10"), (("none", "none"), "once")])
def test_wrong_names_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        cells_of(EvaluateSettings(countermeasures=names), ["resnet9"])
