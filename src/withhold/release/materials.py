"""What a crafter is built from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries
from withhold.progress import Reporter
from withhold.release.crafting import Crafter
from withhold.release.plan import Plan
from withhold.release.settings import ProtectSettings


@dataclass(frozen=True, slots=True, eq=False)
class Materials:
    """What a crafter is built from. The dataset may only be read while it is being built, not while it crafts.

    Attributes:
        surrogate_file: Where the surrogate's weights are kept from one start of a run to the next.
        reserved: Bytes on its disk that the release will take.
    """

    dataset: Dataset
    plan: Plan
    settings: ProtectSettings
    surrogate_file: Path
    reporter: Reporter
    reserved: int = 0

    @property
    def entries(self) -> Entries:
        """The images that will be released."""
        return self.plan.released()


MakeCrafter = Callable[[Materials], Crafter]
