import pytest
import torch

from withhold.evaluation import estimate as module
from withhold.evaluation.estimate import estimate
from withhold.evaluation.jobs import Workers
from withhold.evaluation.results import Cell
from withhold.evaluation.training import Harness
from withhold.networks.recipe import Recipe

CPU = torch.device("cpu")


class Fixed(Harness):
    """Four epochs on a hundred images, whatever the cell."""

    def recipe(self, network: str, images: int) -> Recipe:
        del network, images
        return Recipe(epochs=4)

    def images_of(self, cell: Cell) -> int:
        del cell
        return 100


@pytest.mark.parametrize(("jobs", "threads"), [(1, 4), (2, 2), (8, 1)])
def test_networks_are_timed_with_the_threads_that_a_job_has(
    monkeypatch: pytest.MonkeyPatch, jobs: int, threads: int
) -> None:
    before, seen = torch.get_num_threads(), []

    def probe(*_: object) -> tuple[float, float]:
        seen.append(torch.get_num_threads())
        return 1.0, 0.0

    monkeypatch.setattr(module, "_probe", probe)
    cells = [Cell("released", name, "resnet9", 0) for name in ("none", "adversarial-8")]
    torch.set_num_threads(4)
    try:
        expected = estimate(cells, Fixed(Nothing(), None, CPU), Workers((CPU,), jobs))  # type: ignore[arg-type]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]
    assert expected.seconds == pytest.approx(4 * 100 * (1 + 11) / jobs)


class Nothing:
    """Stand in for the sets, of which only the test images are counted."""

    test = ()
