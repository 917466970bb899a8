"""Prometheus metrics of one process: requests, process, database pool, outbox, dead letters."""

import time
from collections.abc import Callable, Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# name → (label name or None, help, read: value by label value, "" for none)
Gauges = dict[str, tuple[str | None, str, Callable[[], dict[str, float]]]]


class GaugeReader:
    """Reads gauges at the scrape; one that can't be read keeps its last value."""

    def __init__(self, gauges: Gauges) -> None:
        self.gauges = gauges
        self.last: dict[str, dict[str, float]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge."""
        for name, (label, text, read) in self.gauges.items():
            self.last[name] = read() or self.last.get(name, {})
            family = GaugeMetricFamily(name, text, labels=[label] if label else None)
            for value, number in self.last[name].items():
                family.add_metric([value] if label else [], number)
            yield family


def init_metrics(app: Flask, gauges: Gauges) -> None:
    """Count and time every request of the app, and serve `GET /metrics`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(GaugeReader(gauges))
    total = Counter("http_requests", "Requests.", ["route", "method", "status"], registry=registry)
    seconds = Histogram(
        "http_request_duration_seconds", "Duration.", ["route", "method"], buckets=BUCKETS, registry=registry
    )

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # The rule, never the path: one series a route, not one an order.
        route = request.url_rule.rule if request.url_rule else "(none)"
        method = request.method if request.url_rule else "(any)"
        total.labels(route, method, response.status_code).inc()
        if "started" in g:
            seconds.labels(route, method).observe(time.perf_counter() - g.started)
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE)
