"""Promise 1: nothing of ours raises into the program, whatever it passes, and one bad record costs one record."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.arguments import PLACES
from tests.faults.hostile import VALUES

# Swallowing is what is tested here.
pytestmark = [pytest.mark.faults, pytest.mark.shielded]


@otel_ml.predict
def good(value: object) -> object:
    """Return what it was given; called between hostile calls."""
    return value


@contextmanager
def collecting(**settings: object) -> Iterator[Callable[[], int]]:
    """Send to a collector, and give what counts the good calls that reached it."""
    with FaultCollector() as collector:
        otel_ml.configure(exporters=[otel_ml.exporters.OTLP(collector.endpoint)], **settings)  # type: ignore[arg-type]  # settings of each test

        def reached() -> int:
            assert otel_ml.flush(20.0) or otel_ml.health().dropped
            return sum(span.name == "predict good" for span in collector.spans)

        yield reached
        otel_ml.shutdown()


def escaping(value: Callable[[], object], check: Callable[[object], object] = good) -> list[str]:
    """Pass a value everywhere; return where something was raised."""
    found = []
    for place, pass_on in PLACES.items():
        try:
            pass_on(value())
        except BaseException as error:
            found.append(f"{place}: {type(error).__name__}")
        check(place)
    return found


# Where size is not what matters.
SMALL = {name: value for name, value in VALUES.items() if "million" not in name and "50 MB" not in name}


class TestHostileValues:
    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    def test_nothing_is_raised_and_no_good_record_is_lost(self, value: Callable[[], object]) -> None:
        """A hostile value raises nowhere, and every good call made in between arrives."""
        with collecting() as reached:
            assert escaping(value) == []
            assert reached() == len(PLACES)

    @pytest.mark.parametrize("value", SMALL.values(), ids=SMALL)
    def test_nothing_is_raised_without_configuration(self, value: Callable[[], object]) -> None:
        """The same before `configure()`."""
        assert escaping(value) == []

    @pytest.mark.parametrize("value", SMALL.values(), ids=SMALL)
    def test_nothing_is_raised_where_calls_are_not_sampled(self, value: Callable[[], object]) -> None:
        """The same where no call has a span."""
        otel_ml.configure(exporters=[InMemorySpanExporter()], sampling=0.0)

        assert escaping(value) == []

    @pytest.mark.parametrize("value", SMALL.values(), ids=SMALL)
    def test_nothing_is_raised_with_processors_and_readers_of_others(self, value: Callable[[], object]) -> None:
        """The same with standard processors and readers, which see what we hand them in the caller's thread."""
        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        otel_ml.configure(exporters=[SimpleSpanProcessor(spans), reader])

        assert escaping(value) == []
        assert reader.get_metrics_data() is not None
        assert sum(span.name == "predict good" for span in spans.get_finished_spans()) == len(PLACES)


def test_a_result_is_handed_on_untouched() -> None:
    """What a decorated function returns is the very object it made."""
    otel_ml.configure(exporters=[InMemorySpanExporter()])
    made = [value() for value in VALUES.values()]

    assert [name for name, one in zip(VALUES, made, strict=True) if good(one) is not one] == []


# Hypothesis cannot hold hostile values any better than others can: it draws how to make them.
Make = Callable[[], object]
leaves: st.SearchStrategy[Make] = st.sampled_from(list(SMALL.values())) | (
    st.floats() | st.integers() | st.text(st.characters(codec=None)) | st.binary()
).map(lambda value: lambda: value)
nested: st.SearchStrategy[Make] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda makes: lambda: [make() for make in makes])
        | st.lists(inner, max_size=3).map(lambda makes: lambda: tuple(make() for make in makes))
        | st.dictionaries(st.text(max_size=5), inner, max_size=5).map(
            lambda makes: lambda: {k: m() for k, m in makes.items()}
        )
    ),
    max_leaves=10,
)
places = st.lists(st.sampled_from(list(PLACES)), min_size=1, max_size=5)
unhurried = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def _check_any(make: Make, chosen: list[str]) -> None:
    for place in chosen:
        PLACES[place](make())
    value = make()
    assert good(value) is value


@settings(unhurried, max_examples=300)
@given(nested, places)
def _any(make: Make, chosen: list[str]) -> None:
    _check_any(make, chosen)


@settings(unhurried, max_examples=100_000)
@given(nested, places)
def _any_at_length(make: Make, chosen: list[str]) -> None:
    _check_any(make, chosen)


def test_no_combination_of_values_raises() -> None:
    """Whatever is nested in whatever, passed anywhere, raises nothing."""
    with collecting():
        _any()


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_no_combination_of_values_raises_in_100_000_examples() -> None:
    """The same 100,000 times."""
    with collecting():
        _any_at_length()
