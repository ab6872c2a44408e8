"""How a component's metrics are defined: each with a unit, a help and the values its labels can have.

Owns the list of what is defined, of which docs/metrics.md is made, and gauges that can be absent. Knows no component.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# A second series for every counter and histogram, for when it began: a restart shows without it.
disable_created_metrics()  # type: ignore[no-untyped-call]

# What a label can be: all its values, or, where the code does not name them, what keeps them few.
Values = Sequence[str] | str
Labels = Mapping[str, Values]
# How the workers of a gateway are put together: the sum or the largest of those that live.
Over = Literal["", "livesum", "livemax"]
NO_LABELS: Final[Labels] = {}


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes:
        name: As it is scraped, a counter's with ``_total``.
        kind: counter, gauge or histogram.
        unit: A base unit (seconds, bytes, ratio), or what is counted.
        help: One sentence or two.
        labels: By name.
        buckets: Upper bounds of a histogram, without infinity.
        over: How a gauge's workers are put together, "" where there is one process.
    """

    name: str
    kind: str
    unit: str
    help: str
    labels: Labels
    buckets: tuple[float, ...] = ()
    over: Over = ""


class Sampled(Collector):
    """A gauge that is looked up as a whole, and absent where nothing is known: zero would be a lie."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._values: Mapping[tuple[str, ...], float] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name what `collect` may yield, for the registry to hold names unique."""
        return [self._family()]

    def set(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Replace all values, each by what its labels are."""
        self._values = values

    def one(self, value: float | None) -> None:
        """Replace the value of a gauge without labels; None leaves it out."""
        self._values = {} if value is None else {(): value}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the family, if it has a value."""
        family = self._family()
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        if family.samples:
            yield family

    def _family(self) -> GaugeMetricFamily:
        defined = self._definition
        return GaugeMetricFamily(defined.name, defined.help, labels=list(defined.labels))


class Metering:
    """One component's metrics.

    Attributes:
        registry: Where they are; not the library's own, so that several may live in a process.
        definitions: What they are, in the order they were defined.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.definitions: list[Definition] = []

    def counter(self, name: str, unit: str, text: str, labels: Labels = NO_LABELS) -> Counter:
        """Define what only grows; ``unit`` is what is counted."""
        self.definitions.append(Definition(name, "counter", unit, text, labels))
        made = Counter(name, text, list(labels), registry=self.registry)
        # From zero on: of a series that begins with its first event, nobody sees a rate until the second.
        if len(labels) == 1 and not isinstance(values := next(iter(labels.values())), str):
            for value in values:
                made.labels(value)
        return made

    def gauge(self, name: str, unit: str, text: str, labels: Labels = NO_LABELS, *, over: Over) -> Gauge:
        """Define what goes up and down in each worker."""
        assert over, "a gauge of one process is sampled"
        self.definitions.append(Definition(name, "gauge", unit, text, labels, over=over))
        return Gauge(name, text, list(labels), registry=self.registry, multiprocess_mode=over)

    def sampled(self, name: str, unit: str, text: str, labels: Labels = NO_LABELS) -> Sampled:
        """Define what goes up and down and can be absent."""
        self.definitions.append(Definition(name, "gauge", unit, text, labels))
        made = Sampled(self.definitions[-1])
        self.registry.register(made)
        return made

    def histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        """Define a distribution, in seconds."""
        self.definitions.append(Definition(name, "histogram", "seconds", text, NO_LABELS, buckets))
        return Histogram(name, text, registry=self.registry, buckets=buckets)
