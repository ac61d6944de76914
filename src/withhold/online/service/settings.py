"""Every option of `withhold serve` and its default."""

from pydantic import BaseModel, ConfigDict, Field

from withhold.online.settings import DEFAULT_SPEED, SpeedName

MIB = 2**20
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
        512 * MIB, ge=1, description="Most bytes of all requests that are received or answered at a time."
    )
    max_jobs: int = Field(100, ge=1, description="Most jobs that are not finished.")
    receive_timeout: float = Field(60.0, gt=0, description="Seconds within which a request must have arrived whole.")
    shutdown_timeout: float = Field(
        30.0, ge=0, description="Seconds for what was accepted before the service stops; the rest is handed back."
    )
    job_hours: float = Field(24.0, gt=0, description="Hours for which the result of a job is kept.")
