"""Every option of `online prepare` and its default: those of `protect`, and what belongs to single images."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from withhold.errors import InvalidInput
from withhold.release.settings import ProtectSettings

SpeedName = Literal["full", "quick", "instant"]
SPEEDS: tuple[SpeedName, ...] = get_args(SpeedName)
DEFAULT_SPEED: SpeedName = "full"

FREE = ("splits", "skip_unreadable", "lossless", "batch_size", "device")
"""Settings of `protect` that a protector leaves to the run."""


class Speed(BaseModel):
    """How an image is crafted.

    Attributes:
        start: What the settings of `protect` say, or the generator's output.
        steps: After that; 0 only from the generator.
        step_size: First step, as a fraction of eps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Literal["settings", "generator"]
    steps: int = Field(ge=0)
    step_size: float = Field(gt=0, le=2)


class OnlineSettings(ProtectSettings):
    """How a protector is prepared. Frozen; unknown names are errors."""

    form: Literal["joint", "decoupled"] = Field(
        "decoupled", description="Alignment only: each image on its own (Proposition 1); joint needs a batch."
    )
    quick_steps: int = Field(6, ge=1, description="Crafting steps of the speed quick, from the generator's output.")
    quick_step_size: float = Field(
        0.3, gt=0, le=2, description="First step of quick and instant, as a fraction of eps."
    )
    instant_steps: int = Field(0, ge=0, description="Refining steps of the speed instant, after the generator.")
    generator_width: int = Field(32, ge=1, description="Channels of the generator network.")
    generator_blocks: int = Field(4, ge=1, description="Residual blocks of the generator network.")
    generator_epochs: int | None = Field(
        None, ge=1, description="Training epochs of the generator; chosen by size of the set if absent."
    )
    lanes: int | None = Field(
        None, ge=1, description="Images crafted side by side, part of the result; 1 on a CPU and 8 elsewhere if absent."
    )

    @model_validator(mode="after")
    def _images_are_crafted_one_by_one(self) -> "OnlineSettings":
        problem = None
        if self.objective == "gradient-norm":
            problem = "objective gradient-norm is a property of a batch; choose another"
        elif self.objective == "alignment" and self.form == "joint":
            problem = "form joint needs a batch, and images come one by one; choose decoupled"
        elif self.objective == "alignment" and self.direction == "batch":
            problem = "direction batch needs a batch, and images come one by one; choose dataset or class"
        elif self.restarts > 1:
            problem = "online, an image is crafted once; raise steps in place of restarts"
        elif self.faces is not None or self.detector is not None:
            problem = "online, faces are protected as aligned pictures of one face each; leave out faces and detector"
        if problem is not None:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _lanes_share_nothing(self) -> "OnlineSettings":
        if self.lanes not in {None, 1} and self.objective == "alignment" and self.direction == "class":
            msg = "with a direction for each class images are crafted one after the other; leave out lanes"
            raise ValueError(msg)
        return self

    def speeds(self) -> Mapping[SpeedName, Speed]:
        """Give what each speed means."""
        return {
            "full": Speed(start="settings", steps=self.steps, step_size=self.step_size),
            "quick": Speed(start="generator", steps=self.quick_steps, step_size=self.quick_step_size),
            "instant": Speed(start="generator", steps=self.instant_steps, step_size=self.quick_step_size),
        }


def check_free(settings: ProtectSettings) -> None:
    """Refuse settings of a run that a protector fixes.

    Raises:
        InvalidInput: Names those that were given, whatever their values.
    """
    fixed = [name for name in ProtectSettings.model_fields if name in settings.model_fields_set and name not in FREE]
    if fixed:
        msg = (
            f"a protector fixes {', '.join(fixed)}: leave that out, or prepare another protector with it. A run "
            f"chooses {', '.join(FREE)}."
        )
        raise InvalidInput(msg)
