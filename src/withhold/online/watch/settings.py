"""Every option of `watch` and its default."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from withhold.online.settings import DEFAULT_SPEED, SpeedName


class WatchSettings(BaseModel):
    """How a folder is watched. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: SpeedName = Field(DEFAULT_SPEED, description="How an image is crafted: with all steps, few, or at once.")
    labels: str = Field(
        "folders",
        description="What images show: folders takes the name of the top folder, and the surrogate's own label outside "
        "of folders; unknown always takes the surrogate's; otherwise a CSV with the columns image and label.",
    )
    originals: Literal["keep", "delete"] = Field(
        "keep", description="Move an original away once its released image is in the outbox, or delete it then."
    )
    done: Path | None = Field(None, description="Where originals go; INBOX/.withhold/done if absent.")
    rejected: Path | None = Field(
        None,
        description="Where files go that cannot be protected, with the reason; INBOX/.withhold/rejected if absent.",
    )
    settle: float = Field(
        2.0, gt=0, allow_inf_nan=False, description="Seconds for which a file must not have changed to be taken."
    )
    rescan: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds between looks at the inbox where no event announces files.",
    )
