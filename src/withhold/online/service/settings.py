"""Every option of `withhold serve` and its default."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from withhold.online.settings import DEFAULT_SPEED, SpeedName

MIB, GIB = 2**20, 2**30
MOST_PIXELS = 89_000_000
"""Beyond it Pillow itself takes an image for an attack."""


class ServiceSettings(BaseModel):
    """How the service behaves. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Other machines reach 127.0.0.1 only through a proxy on this one, "
        "which should add TLS.",
    )
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 for any that is free.")
    engine: Literal["process", "ray"] = Field(
        "process", description="Craft in this process, or in replicas on a Ray cluster."
    )
    replicas: int = Field(1, ge=1, description="With Ray: processes that craft, each with a CPU or GPU of its own.")
    address: str | None = Field(
        None, description="With Ray: address of a cluster, or auto; one is started on this machine if absent."
    )
    speed: SpeedName = Field(DEFAULT_SPEED, description="Speed of a request that names none.")
    max_batch: int | None = Field(
        None, ge=1, description="Most images that are crafted together; the protector's lanes if absent."
    )
    max_wait_ms: float = Field(
        5.0, ge=0, description="Longest that an image waits for company while nothing is crafted, in milliseconds."
    )
    max_queue: int = Field(64, ge=1, description="Most images of single requests that wait or are crafted.")
    max_queue_pixels: int = Field(200_000_000, ge=1, description="Most pixels of these images together.")
    max_bytes: int = Field(20 * MIB, ge=1, description="Largest file of an image.")
    max_pixels: int = Field(50_000_000, ge=1, le=MOST_PIXELS, description="Largest image, in pixels.")
    max_request_pixels: int = Field(
        200_000_000, ge=1, description="Most pixels of all images of a request that is answered at once."
    )
    max_images: int = Field(100, ge=1, description="Most images of one request.")
    max_request_bytes: int = Field(100 * MIB, ge=1, description="Largest request of several images.")
    max_received_bytes: int = Field(
        512 * MIB, ge=1, description="Most bytes of all requests that are received or worked on at a time."
    )
    max_answer_bytes: int = Field(
        1024 * MIB,
        ge=1,
        description="Most bytes of all answers that are made or sent at a time, at 4 for each pixel of an image.",
    )
    max_connections: int = Field(
        500, ge=1, description="Most connections; on further ones every request but those for health is refused."
    )
    max_jobs: int = Field(100, ge=1, description="Most jobs that are not finished.")
    max_spool_bytes: int = Field(
        20 * GIB,
        ge=1,
        description="Most bytes of the files of all jobs, results that are yet to be made among them, at 4 for each "
        "pixel of an image.",
    )
    receive_timeout: float = Field(60.0, gt=0, description="Seconds within which a request must have arrived whole.")
    send_timeout: float = Field(
        30.0, gt=0, description="Seconds for a client to take the next MiB of its answer, or all of the rest."
    )
    shutdown_timeout: float = Field(
        30.0, ge=0, description="Seconds for what was accepted before the service stops; the rest is handed back."
    )
    job_hours: float = Field(24.0, gt=0, description="Hours for which the result of a job is kept.")

    @model_validator(mode="after")
    def _replicas_are_of_ray(self) -> "ServiceSettings":
        if self.engine != "ray" and (self.replicas > 1 or self.address is not None):
            msg = "replicas and address are for Ray: give --engine ray too, or leave them out"
            raise ValueError(msg)
        return self
