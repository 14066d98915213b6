"""What a server counts of itself, in the text format of Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

PATHS = ("/v1/models", "/v1/samples", "/healthz", "/readyz", "/metrics", "/")
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and their page.

    Args:
        waiting: number of jobs that wait to be drawn.
        patience: seconds until they will have been.
    """

    def __init__(self, waiting: Callable[[], int], patience: Callable[[], int]):
        self.patience = patience
        self.registry = CollectorRegistry()
        place: Any = {"registry": self.registry, "namespace": "condgen"}
        self.requests = Counter("requests", "Answers by path, method and status.", ["path", "method", "status"], **place)
        self.seconds = Histogram("request_seconds", "Time from a request to its answer.", ["path"], buckets=SECONDS, **place)
        self.samples = Counter("samples", "Samples that were drawn, by model.", ["model"], **place)
        self.batch = Histogram("batch_samples", "Samples that were drawn together.", buckets=SIZES, **place)
        self.together = Histogram("batch_requests", "Requests that were drawn together.", buckets=SIZES, **place)
        self.full = Counter("refused_full", "Requests that were refused because too many waited.", **place)
        Gauge("queue_length", "Requests that wait to be drawn.", **place).set_function(waiting)

    def drawn(self, model: str, sizes: list[int]) -> None:
        """Count a batch of a model, with the numbers of samples of the requests in it."""
        self.samples.labels(model).inc(sum(sizes))
        self.batch.observe(sum(sizes))
        self.together.observe(len(sizes))

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer. Only known paths and methods are told apart, so that nobody can make the page grow."""
        path = next((path for path in PATHS if scope["path"] == path), "other")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self.requests.labels(path, method, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def page(self) -> bytes:
        """Return the page."""
        return generate_latest(self.registry)
