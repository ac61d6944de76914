"""What Prometheus reads."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from withhold.online.settings import SPEEDS

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 20, 40, 80)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts and times of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Prometheus adds the unit or `_total` itself where it belongs.
        self.batches = Histogram(
            "withhold_batch_images", "Images crafted together.", buckets=SIZES, registry=self.registry
        )
        self.seconds = Histogram(
            "withhold_protect_seconds",
            "Seconds from an image's arrival to its answer.",
            ["speed"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter("withhold_images", "Images released.", ["speed", "route"], registry=self.registry)
        self.rejections = Counter(
            "withhold_rejections", "Requests and images refused.", ["reason"], registry=self.registry
        )
        self.requests = Counter("withhold_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self._queue = Gauge("withhold_queue_images", "Images that wait or are crafted.", registry=self.registry)
        self._jobs = Gauge("withhold_jobs_unfinished", "Jobs that are not finished.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        for speed in SPEEDS:  # so that a histogram is there before its first image
            self.seconds.labels(speed)

    def watch(self, queue: Callable[[], int], jobs: Callable[[], int]) -> None:
        """Read two lengths whenever somebody asks."""
        self._queue.set_function(queue)
        self._jobs.set_function(jobs)

    def text(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)
