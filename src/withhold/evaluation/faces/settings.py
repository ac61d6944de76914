"""Every option of `evaluate --task faces` and its default, written once."""

from typing import Literal

from pydantic import Field, field_validator

from withhold.evaluation.settings import SharedSettings

Head = Literal["softmax", "cosface", "arcface"]


class FaceSettings(SharedSettings):
    """How a release of faces is evaluated."""

    task: Literal["faces"] = Field(
        "faces", description="What competitors are after: to tell classes of images, or to recognise people."
    )
    suite: Literal["quick", "standard"] = Field(
        "standard",
        description="Training on the published pictures alone, and a stranger who never does; all scenarios, and "
        "training alone with every head.",
    )
    scenarios: tuple[str, ...] = Field((), description="Scenarios to try instead of the suite's.")
    heads: tuple[Head, ...] = Field(
        (), description="Losses that recognisers are trained by in every scenario: softmax, cosface, arcface."
    )
    network: str = Field("auto", description="Network that recognisers train; auto goes by the hardware.")
    old_share: int = Field(
        20, ge=1, le=99, description="Percent of each person's pictures that were published unprotected before."
    )
    distractors: tuple[int, ...] = Field(
        (100, 300, 700), description="Strangers' pictures among which people are looked up, from those of the pairs."
    )

    @field_validator("distractors")
    @classmethod
    def _at_least_one(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 1 for count in counts):
            msg = "each number of distractors must be 1 or more"
            raise ValueError(msg)
        return tuple(sorted(set(counts)))
