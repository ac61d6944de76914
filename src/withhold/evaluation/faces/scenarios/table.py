"""All scenarios by name."""

from collections.abc import Mapping

from withhold.evaluation.faces.scenarios.alone import Alone
from withhold.evaluation.faces.scenarios.fine_tuned import FineTuned
from withhold.evaluation.faces.scenarios.immune import Immune
from withhold.evaluation.faces.scenarios.mixed import Mixed
from withhold.evaluation.faces.scenarios.old_alone import OldAlone
from withhold.evaluation.faces.scenarios.old_releases import OldReleases
from withhold.evaluation.faces.scenarios.scenario import Scenario
from withhold.evaluation.faces.scenarios.stranger import Stranger
from withhold.evaluation.faces.scenarios.untrained import Untrained
from withhold.evaluation.naming import look_up

SCENARIOS: Mapping[str, Scenario] = {
    "alone": Alone(),
    "untrained": Untrained(),
    "mixed": Mixed(),
    "fine-tuned": FineTuned(),
    "old-releases": OldReleases(),
    "old-alone": OldAlone(),
    "immune": Immune(),
    "stranger": Stranger(),
}
"""Name -> scenario."""


def find(name: str) -> Scenario:
    """Look a scenario up.

    Raises:
        InvalidInput: There is none of this name.
    """
    return look_up(name, SCENARIOS, "scenario")


def sentence(name: str) -> str:
    """Say in one sentence what a scenario is.

    >>> sentence("alone")
    'Train a recogniser only on the published pictures.'
    """
    return (find(name).__doc__ or "").partition("\n")[0]
