"""Every option of `protect` and its default, written once; the command line and the TOML file are made from it."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from withhold.data.pixels import parse_eps

Eps = Annotated[Fraction, BeforeValidator(parse_eps), PlainSerializer(str)]


class ProtectSettings(BaseModel):
    """How a dataset is protected. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["classification", "faces"] = Field(
        "classification", description="What a competitor would train; faces are recognised by identity, one per class."
    )
    eps: Eps = Field(
        Fraction(8, 255), description="Largest change of any channel of any pixel, as a fraction of the range."
    )
    objective: Literal["class-targeted", "alignment", "error-maximising", "error-minimising", "gradient-norm"] = Field(
        "class-targeted",
        description="What is minimised: the loss towards another class, or 1 - cos of gradient alignment; to compare "
        "with other methods, minus the loss, the loss itself, or the norm of its gradient.",
    )
    direction: Literal["dataset", "batch", "class"] = Field(
        "dataset", description="Alignment only: images whose mean reverse cross-entropy gives the direction."
    )
    form: Literal["joint", "decoupled"] = Field(
        "joint", description="Alignment only: one cosine per batch, or each image on its own (Proposition 1)."
    )
    steps: int = Field(40, ge=1, description="Crafting steps per image.")
    step_size: float = Field(0.1, gt=0, le=2, description="First step, as a fraction of eps.")
    schedule: Literal["constant", "linear", "stepwise"] = Field(
        "constant", description="How the step size falls: not at all, linearly to zero, or x0.1 at 3/8, 5/8 and 7/8."
    )
    optimizer: Literal["pgd", "adam"] = Field(
        "pgd", description="Signed gradient steps, or Adam on the gradient's signs."
    )
    restarts: int = Field(1, ge=1, description="Crafting runs per image, of which the best is kept image by image.")
    start: Literal["uniform", "normal", "zero"] = Field("uniform", description="Where in the ball crafting starts.")
    augment: Literal["auto", "none", "shift", "subpixel", "crop"] = Field(
        "auto",
        description="Views redrawn at each step: flip with shifts by whole pixels or by any distance, or random "
        "resized crops; auto goes by the images' size.",
    )
    l2: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight of the squared l2 norm of the change, beside the objective."
    )
    ssim: float = Field(0.0, ge=0, allow_inf_nan=False, description="Weight of 1 - SSIM, beside the objective.")
    total_variation: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight of the change's total variation, beside the objective."
    )
    batch_size: int = Field(256, ge=1, description="Images crafted together; part of what the joint form means.")
    surrogate: str | None = Field(
        None,
        description="Weights file, timm:NAME, transformers:NAME_OR_PATH, or extractor:SOURCE for a recogniser of "
        "yours, a file of Withhold's or module:function; trained on the data if absent.",
    )
    architecture: str = Field(
        "auto", description="Network to train or to load weights into: a built-in name or module:function."
    )
    head: Literal["softmax", "cosface", "arcface"] | None = Field(
        None,
        description="Loss that the surrogate is trained by: plain cross-entropy or one with a margin; what a weights "
        "file says, or softmax, if absent.",
    )
    input_size: int | None = Field(
        None, ge=8, description="Side of the square that the surrogate sees; by image size if absent."
    )
    faces: str | None = Field(
        None, description="CSV of boxes or landmarks of faces in whole photographs; only the faces are changed."
    )
    detector: str | None = Field(
        None, description="In place of a CSV, module:function from an array (h, w, 3) to the boxes or landmarks in it."
    )
    faceless: Literal["refuse", "unchanged"] = Field(
        "refuse", description="Photographs without a face: refuse the dataset, or release them as they are."
    )
    mean: tuple[float, float, float] | None = Field(
        None, description="Channel means that loaded weights were trained with."
    )
    std: tuple[float, float, float] | None = Field(
        None, description="Channel deviations that loaded weights were trained with."
    )
    epochs: int | None = Field(
        None, ge=1, description="Surrogate training epochs; chosen by size of the set if absent."
    )
    snapshots: int = Field(
        1, ge=1, description="Checkpoints of the surrogate's training to craft against as an ensemble."
    )
    seed: int = Field(0, ge=0, description="Seed of every random draw.")
    device: str = Field(
        "auto",
        description="cpu, cuda, cuda:1, mps; several of one type, cuda:0,cuda:1, craft side by side; auto takes the "
        "fastest present.",
    )
    lossless: Literal["png", "webp"] = Field("png", description="Lossless format that lossy input is released in.")
    splits: tuple[str, ...] = Field((), description="Splits to protect and release; all if empty. Others are left out.")
    skip_unreadable: bool = Field(False, description="Leave unreadable images out of the release instead of refusing.")

    @model_validator(mode="after")
    def _normalisation_is_a_pair(self) -> "ProtectSettings":
        if (self.mean is None) != (self.std is None):
            msg = "mean and std go together: give both, or neither"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _faces_are_found_in_one_way(self) -> "ProtectSettings":
        if self.faces is not None and self.detector is not None:
            msg = "faces and detector both say where faces are: give one of them"
            raise ValueError(msg)
        if self.task != "faces" and (self.faces or self.detector):
            msg = "faces and detector are for the task faces: give --task faces too"
            raise ValueError(msg)
        if self.faceless != "refuse" and not (self.faces or self.detector):
            msg = "faceless is for photographs with faces in them: give faces or detector too"
            raise ValueError(msg)
        return self
