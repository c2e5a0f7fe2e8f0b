"""What /metrics tells, in the form of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 4, 16, 64, 256, 1024, 4096)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = here = CollectorRegistry()
        self.requests = Counter("thawrec_requests", "Answers of /score.", ["status"], registry=here)
        self.seconds = Histogram(
            "thawrec_request_seconds",
            "From the first byte of a request to its answer.",
            buckets=_SECONDS,
            registry=here,
        )
        self.waiting = Gauge("thawrec_waiting", "Requests inside the server.", registry=here)
        self.batch = Histogram("thawrec_batch_rows", "Items scored at a time.", buckets=_ROWS, registry=here)
        self.unknown = Counter(
            "thawrec_unknown", "Scored rows whose id has no row of its own.", ["column"], registry=here
        )
        self.alone = Counter("thawrec_alone", "Micro-batches scored without the store.", registry=here)
        self.delta = Gauge("thawrec_delta", "The newest delta in what is served.", registry=here)
        self.deltas = Counter("thawrec_deltas", "Deltas put in by this server, and refused.", ["what"], registry=here)
        self.following = Gauge("thawrec_following", "Whether the last look for deltas went well.", registry=here)
        self.restart = Gauge(
            "thawrec_restart_needed", "Whether another export lies where the served one did.", registry=here
        )
        self.store_up = Gauge("thawrec_store_up", "Whether the online store has its part in scores.", registry=here)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
