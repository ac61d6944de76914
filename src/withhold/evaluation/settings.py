"""Every option of `evaluate` and its default, written once; the command line and the TOML file are made from it.

Those of `--task faces` are in `faces.settings`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_JOBS = 64


class SharedSettings(BaseModel):
    """Options that every evaluation has, whatever the competitors are after. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(1, ge=1, description="Trainings of each competitor, with different draws.")
    epochs: int | None = Field(None, ge=1, description="Training epochs; by recipe and size of the set if absent.")
    input_size: int | None = Field(None, ge=8, description="Side of the square that networks see; by image size.")
    per_class: int | None = Field(None, ge=2, description="Use this many training images of each class; all if absent.")
    splits: tuple[str, ...] = Field((), description="Splits of originals and release to train on; all if empty.")
    test_splits: tuple[str, ...] = Field((), description="Splits of the test set to test on; all if empty.")
    seed: int = Field(0, ge=0, description="Seed of every random draw; further seeds count up from it.")
    device: str = Field(
        "auto", description="cpu, cuda, mps, or several as cuda:0,cuda:1, used in turn; auto takes the fastest present."
    )
    jobs: int = Field(1, ge=1, le=MOST_JOBS, description="Trainings at a time, each in a process of its own.")
    engine: Literal["local", "ray"] = Field(
        "local", description="Train in processes of this machine, or on a Ray cluster, --jobs at a time."
    )
    address: str | None = Field(
        None, description="With Ray: HOST:PORT of the cluster's head, or auto; one is started here if absent."
    )
    gpus_per_job: float = Field(0.0, ge=0, description="With Ray: GPUs of each training; may be a fraction.")
    compiled: bool = Field(False, description="Train through torch.compile: slow to start, then faster on a GPU.")
    pictures: int = Field(6, ge=0, description="Originals to show in the report beside their released versions.")
    lpips: str | None = Field(None, description="Weights file for the LPIPS distance; left out if absent.")

    @model_validator(mode="after")
    def _clusters_are_of_ray(self) -> "SharedSettings":
        if self.engine != "ray" and (self.address is not None or self.gpus_per_job):
            msg = "address and GPUs per job are for Ray: give --engine ray too, or leave them out"
            raise ValueError(msg)
        return self


class EvaluateSettings(SharedSettings):
    """How a release for classification is evaluated."""

    task: Literal["classification"] = Field(
        "classification", description="What competitors are after: to tell classes of images, or to recognise people."
    )
    suite: Literal["quick", "standard", "full"] = Field(
        "standard",
        description="What competitors try: nothing; the cheap countermeasures that help most; all of them.",
    )
    countermeasures: tuple[str, ...] = Field((), description="Countermeasures to try instead of the suite's.")
    networks: tuple[str, ...] = Field(
        (), description="Networks that competitors train; chosen by the images' size and the hardware if absent."
    )
    recipe: Literal["fast", "reference"] = Field(
        "fast", description="How competitors train: our fast recipe, or the field's (SGD, 120 epochs, steps)."
    )
    trained: Literal["all", "head"] = Field(
        "all", description="Train all layers, or only the classification layer of a pretrained network."
    )
