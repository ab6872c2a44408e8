"""What is counted in memory and handed on later ends as if the library had counted it itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.batching import Batched, Tallied

BOUNDS = (0.001, 0.25, 1.0, 10.0)
seconds = st.one_of(
    st.sampled_from([0.0, *BOUNDS]), st.floats(min_value=0, max_value=100, allow_nan=False, allow_subnormal=False)
)


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", sample.labels.get("of", ""))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


@given(st.lists(st.lists(seconds, max_size=20), max_size=5))
def test_a_tallied_histogram_ends_as_the_librarys_own_whenever_it_is_flushed(periods: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallied = Tallied(Histogram("h", "Help.", registry=ours, buckets=BOUNDS))
    plain = Histogram("h", "Help.", registry=theirs, buckets=BOUNDS)
    for period in periods:
        for value in period:
            tallied.observe(value)
            plain.observe(value)
        tallied.flush()
    ended, expected = samples(ours), samples(theirs)
    total, expected_total = ended.pop(("h_sum", "")), expected.pop(("h_sum", ""))
    assert ended == expected
    assert abs(total - expected_total) <= 1e-9 * max(1.0, expected_total), "the order of additions alone may differ"


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=20), max_size=5))
def test_a_batched_counter_ends_as_the_librarys_own_whenever_it_is_flushed(periods: list[list[str]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batched = Batched(Counter("c", "Help.", ["of"], registry=ours))
    plain = Counter("c", "Help.", ["of"], registry=theirs)
    for period in periods:
        for label in period:
            batched.inc(label)
            plain.labels(label).inc()
        batched.flush()
    assert samples(ours) == samples(theirs)


def test_nothing_is_handed_on_before_a_flush_nor_twice() -> None:
    registry = CollectorRegistry()
    tallied = Tallied(Histogram("h", "Help.", registry=registry, buckets=BOUNDS))
    tallied.observe(0.5)
    assert samples(registry)["h_count", ""] == 0
    tallied.flush()
    tallied.flush()
    assert samples(registry)["h_count", ""] == 1
    assert samples(registry)["h_sum", ""] == 0.5
