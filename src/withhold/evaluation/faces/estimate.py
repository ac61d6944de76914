"""How long the trainings of an evaluation of faces will take, from a short probe of each loss."""

from collections.abc import Sequence

from withhold.evaluation.estimate import Estimate, threads, time_of
from withhold.evaluation.faces.harness import FaceHarness
from withhold.evaluation.faces.results import FaceCell
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.jobs import Workers


def estimate(cells: Sequence[FaceCell], harness: FaceHarness, where: Workers) -> Estimate:
    """Estimate the wall time of some cells whose recognisers from elsewhere are there."""
    trained = [cell for cell in cells if find(cell.scenario).trains]
    with threads(where.threads):
        ways = dict.fromkeys((_network(harness, cell), cell.head) for cell in trained)
        times = {way: _time(harness, *way) for way in ways}
    total = 0.0
    for cell in trained:
        training, testing = times[_network(harness, cell), cell.head]
        epochs = harness.recipe(cell).epochs
        total += epochs * (harness.images_of(cell) * training + len(harness.sets.test) * testing)
    return Estimate(total / where.jobs)


def _network(harness: FaceHarness, cell: FaceCell) -> str:
    """Name the network whose time is taken; that of a recogniser from elsewhere is not known before it is loaded."""
    return harness.network if harness.uses_extractor(find(cell.scenario)) else cell.network


def _time(harness: FaceHarness, network: str, head: str) -> tuple[float, float]:
    """Time training and testing of one picture each, in seconds."""
    means = harness.means(network, head, seed=0)
    built = means.new_network(len(harness.sets.identities))
    return time_of(built, means.recipe(len(harness.sets.original)), harness.sets.test, harness.device)
