"""An application that has OpenTelemetry already: joined, left alone, or sent to as well."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_ml
from otel_ml import exporters
from tests.recorder import Events, Metrics, Point, Recorder, Spans, metrics, points, wait_for
from tests.stopwatch import stopwatch

ROOT = Path(__file__).parents[1]


class Host:
    """An application's own OpenTelemetry: three providers, each with a place."""

    def __init__(self) -> None:
        self.spans, self.events, self.reader = Spans(), Events(), InMemoryMetricReader()
        resource = Resource({"service.name": "host"})
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False, span_limits=SpanLimits(max_events=1))
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader], resource, shutdown_on_exit=False)
        self.loggers = LoggerProvider(resource, shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.events))

    def points(self, name: str) -> list[Point]:
        """Collect, and return the points of one metric."""
        data = self.reader.get_metrics_data()
        return points(data, name) if data is not None else []

    def calls(self) -> int:
        """Collect, and return how many calls have been counted."""
        return sum(point.count for point in self.points("ml.prediction.duration"))  # type: ignore[union-attr]  # a histogram

    @property
    def names(self) -> list[str]:
        """The names of the spans received."""
        return [span.name for span in self.spans.kept]

    @property
    def event_names(self) -> list[str | None]:
        """The names of the events received."""
        return [event.log_record.event_name for event in self.events.kept]


@pytest.fixture
def host() -> Host:
    """A host whose providers are passed."""
    return Host()


@pytest.fixture
def global_host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose providers are OpenTelemetry's global ones; the API lets them be set only once a process."""
    made = Host()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.tracers)
    monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", made.meters)
    monkeypatch.setattr(logs_internal, "_LOGGER_PROVIDER", made.loggers)
    return made


def observe() -> None:
    """Make a call, a run and a label."""
    with otel_ml.predict("m") as call:
        call.id = "a"
        call.outputs("x")
    with otel_ml.train("m") as run:
        run.log(loss=0.5)
    otel_ml.feedback("a", actual="x")


EVENTS = ["ml.training.started", "ml.training.step.completed", "ml.training.completed", "ml.ground_truth.received"]


class TestNoExportersGiven:
    def test_global_providers_are_joined(self, global_host: Host) -> None:
        """Spans, metrics and events go where the application's own go, under its resource, limits and providers."""
        telemetry = otel_ml.configure()
        assert telemetry.tracer_provider is global_host.tracers
        assert telemetry.meter_provider is global_host.meters
        assert telemetry.logger_provider is global_host.loggers
        assert telemetry.health().exporters == ()

        with trace.get_tracer("app").start_as_current_span("request"), otel_ml.predict("m"):
            span = trace.get_current_span()
            span.add_event("one")
            span.add_event("two")
        call, request = global_host.spans.kept
        assert call.parent == request.context
        assert call.resource is request.resource
        assert (len(call.events), call.dropped_events) == (1, 1)

        observe()
        assert telemetry.flush()
        assert global_host.names == ["predict m", "request", "predict m", "train m"]
        assert global_host.event_names == EVENTS
        assert global_host.calls() == 2
        assert {event.resource.attributes["service.name"] for event in global_host.events.kept} == {"host"}

    def test_passed_providers_are_joined(self, host: Host) -> None:
        """Those passed are taken before global ones, each by itself."""
        with otel_ml.configure(tracer_provider=host.tracers, meter_provider=host.meters, logger_provider=host.loggers):
            observe()
            assert host.names == ["predict m", "train m"]
            assert host.event_names == EVENTS
            assert host.calls() == 1

    @pytest.mark.parametrize("which", ["tracers", "meters", "loggers"])
    def test_one_provider_alone(self, host: Host, which: str) -> None:
        """A host may have one signal only: the others go nowhere, and nothing fails."""
        provider = {"tracers": "tracer_provider", "meters": "meter_provider", "loggers": "logger_provider"}[which]
        with otel_ml.configure(**{provider: getattr(host, which)}) as telemetry:  # type: ignore[arg-type]  # a provider
            observe()
            assert telemetry.flush()

        assert bool(host.names) == (which == "tracers")
        assert bool(host.calls()) == (which == "meters")
        assert bool(host.event_names) == (which == "loggers")

    def test_every_configuration_is_replayed_at_collection(self, host: Host) -> None:
        """Joined once more, a host's reader gets at its collection what was measured since, as under the first."""
        for turn in range(1, 4):
            otel_ml.configure(meter_provider=host.meters)
            observe()
            assert host.calls() == turn

    def test_our_shutdown_is_not_the_hosts(self, host: Host) -> None:
        """Shutting down leaves the host's providers working: they are not ours to close."""
        with otel_ml.configure(tracer_provider=host.tracers, meter_provider=host.meters, logger_provider=host.loggers):
            observe()
        with host.tracers.get_tracer("app").start_as_current_span("later"):
            pass

        assert (host.spans.closed, host.events.closed) == (0, 0)
        assert host.names[-1] == "later"
        assert host.calls() == 1

    def test_the_hosts_sampler_is_final(self) -> None:
        """Slow and failed calls have no span of their own where the host does not sample them."""
        spans = Spans()
        provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(spans))
        otel_ml.configure(tracer_provider=provider, keep_slower_than=1e-9)
        with pytest.raises(ZeroDivisionError), otel_ml.predict("m"):
            raise ZeroDivisionError

        assert spans.kept == []

    @pytest.mark.usefixtures("global_host")
    def test_explicit_sampling_is_an_error(self, workdir: Path) -> None:
        """The host samples: saying otherwise is told at once; a setting in pyproject.toml is for other programs."""
        with pytest.raises(otel_ml.ConfigurationError, match="sampler decides"):
            otel_ml.configure(sampling=0.5)
        (workdir / "pyproject.toml").write_text("[tool.otel_ml]\nsampling = 0.5\n", encoding="utf-8")
        otel_ml.configure()

    def test_variables_of_ours_come_first(self, global_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_ML_EXPORTERS asks for exporters of our own; OpenTelemetry's variables are the host's affair."""
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        assert otel_ml.configure().tracer_provider is global_host.tracers
        monkeypatch.setenv("OTEL_ML_EXPORTERS", "none")
        assert otel_ml.configure().tracer_provider is not global_host.tracers

    def test_join_false_leaves_the_host_alone(
        self, global_host: Host, workdir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`join=False`: as if the host were not there."""
        monkeypatch.setenv("OTEL_ML_STORE", str(workdir / "store.db"))
        telemetry = otel_ml.configure(join=False)
        observe()

        assert telemetry.flush()
        assert len(telemetry.health().exporters) == 1
        assert global_host.names == []

    def test_disabled(self, global_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """With OTEL_SDK_DISABLED nothing is joined."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        observe()
        otel_ml.configure()
        observe()

        assert global_host.names == []


class TestExportersGiven:
    def test_one_line_says_that_parents_go_elsewhere(self, global_host: Host, caplog: pytest.LogCaptureFixture) -> None:
        """Ours are used, in providers of our own; parents are the host's spans, and one line says so."""
        place = Recorder()
        otel_ml.configure(exporters=[place])
        otel_ml.configure(exporters=[place])
        with trace.get_tracer("app").start_as_current_span("request"), otel_ml.predict("m"):
            pass
        assert otel_ml.flush(10.0)

        (request,), (call,) = global_host.spans.kept, place.spans
        assert call.parent == request.context
        assert call.resource is place.resource
        assert global_host.calls() == 0
        lines = [record.message for record in caplog.records if record.name == "otel_ml"]
        assert len(lines) == 1
        assert "join=True" in lines[0]
        assert trace.get_tracer_provider() is global_host.tracers

    def test_join_sends_to_both(self, global_host: Host, caplog: pytest.LogCaptureFixture) -> None:
        """`join=True`: every span, point and event arrives once at each, and no line is needed."""
        place = Recorder()
        telemetry = otel_ml.configure(exporters=[place], join=True)
        observe()
        assert telemetry.flush(10.0)

        assert global_host.names == [span.name for span in place.spans] == ["predict m", "train m"]
        assert [span.context for span in global_host.spans.kept] == [span.context for span in place.spans]
        assert global_host.event_names == [event.log_record.event_name for event in place.events] == EVENTS
        assert global_host.calls() == place.value("ml.prediction.duration") == 1
        assert telemetry.tracer_provider is not global_host.tracers
        assert [record for record in caplog.records if record.name == "otel_ml"] == []

    def test_join_with_processors_alone(self, global_host: Host) -> None:
        """What is given are processors and readers only: they too are sent to beside the host."""
        spans, reader = Spans(), InMemoryMetricReader()
        otel_ml.configure(exporters=[SimpleSpanProcessor(spans), reader], join=True)
        observe()

        assert [span.name for span in spans.kept] == global_host.names == ["predict m", "train m"]
        data = reader.get_metrics_data()
        assert data is not None
        assert sum(p.count for p in points(data, "ml.prediction.duration")) == global_host.calls() == 1  # type: ignore[union-attr]  # a histogram

    def test_exporters_and_passed_providers(self, host: Host) -> None:
        """Passing providers beside exporters says the same as `join=True`, for these."""
        place = Recorder()
        otel_ml.configure(exporters=[place], tracer_provider=host.tracers, sampling=1.0, set_global=False)
        observe()
        assert otel_ml.flush(10.0)

        assert host.names == [span.name for span in place.spans]
        assert host.event_names == []

    def test_join_needs_somebody_to_join(self, host: Host) -> None:
        """`join=True` without a provider is a mistake, and so is `join=False` beside one."""
        with pytest.raises(otel_ml.ConfigurationError, match="no OpenTelemetry SDK providers"):
            otel_ml.configure(exporters=[Recorder()], join=True, set_global=False)
        with pytest.raises(otel_ml.ConfigurationError, match="join=False"):
            otel_ml.configure(exporters=[Recorder()], join=False, tracer_provider=host.tracers)
        otel_ml.configure(exporters=[Recorder()], join=True, tracer_provider=host.tracers, set_global=False)
        observe()

        assert host.names == ["predict m", "train m"]

    def test_global_ones_are_left_in_place(self, global_host: Host) -> None:
        """`set_global=True` where a host has its own is an error, before anything is changed."""
        before = Recorder()
        otel_ml.configure(exporters=[before])
        with pytest.raises(otel_ml.ConfigurationError, match="are set already"):
            otel_ml.configure(exporters=[Recorder()], set_global=True)

        assert trace.get_tracer_provider() is global_host.tracers
        observe()
        assert otel_ml.flush(10.0)
        assert len(before.spans) == 2


class TestUnconfigured:
    @pytest.mark.parametrize("first", ["decorated", "with", "train", "decorated train", "feedback"])
    def test_a_host_is_joined_at_the_first_call(self, global_host: Host, first: str) -> None:
        """Without `configure()` whatever comes first joins the host's global providers."""

        @otel_ml.predict(model="m")
        def score() -> None: ...

        @otel_ml.train(model="m")
        def fit() -> None: ...

        def block() -> None:
            with otel_ml.predict("m"):
                pass

        def run() -> None:
            with otel_ml.train("m"):
                pass

        calls: dict[str, Callable[[], None]] = {
            "decorated": score,
            "with": block,
            "train": run,
            "decorated train": fit,
            "feedback": lambda: otel_ml.feedback("a", actual="x", predicted="x", model="m"),
        }
        # Whether the first call itself is seen is not promised: looking around comes after it.
        calls[first]()
        if first == "feedback":
            assert global_host.event_names == ["ml.ground_truth.received"]
        score()
        block()
        run()

        assert global_host.names[-3:] == ["predict m", "predict m", "train m"]
        assert global_host.calls() >= 2
        assert otel_ml.flush()

    def test_a_host_that_comes_later_is_found_within_a_second_or_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that sets its providers after thousands of calls is joined soon after."""

        @otel_ml.predict(model="m")
        def score() -> None: ...

        for _ in range(20_000):
            score()
        made = Host()
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.tracers)

        def seen() -> bool:
            for _ in range(1_000):
                score()
            return bool(made.names)

        with stopwatch() as took:
            wait_for(seen, 10.0)
        assert took.seconds < 5.0

    def test_nothing_is_recorded_without_a_host(self) -> None:
        """Without a host and without `configure()` there is nothing to flush and nothing to tell."""
        observe()

        assert otel_ml.flush()

    def test_a_host_is_left_alone_after_a_shutdown(self, global_host: Host) -> None:
        """After `shutdown()`, or the end of a `with configure()` block, nothing is observed until `configure()`."""
        otel_ml.configure()
        observe()
        assert otel_ml.shutdown()
        observe()
        assert global_host.names == ["predict m", "train m"]
        with otel_ml.configure():
            observe()
        observe()
        assert global_host.names == ["predict m", "train m"] * 2

    def test_configure_replaces_what_was_joined(self, global_host: Host) -> None:
        """A host that was joined by itself gives way to what is configured."""
        for _ in range(3):
            observe()
        place = Recorder()
        seen = len(global_host.names)
        otel_ml.configure(exporters=[place])
        observe()
        assert otel_ml.flush(10.0)

        assert len(global_host.names) == seen
        assert len(place.spans) == 2


class TestMerging:
    def test_adds_our_points_to_the_hosts_export(self) -> None:
        """A host that wraps its exporter gets our points in its own exports: nothing is replayed, nothing comes twice."""
        place = Metrics()
        reader = PeriodicExportingMetricReader(exporters.Merging(place), export_interval_millis=3_600_000)
        provider = MeterProvider([reader], Resource({"service.name": "host"}), shutdown_on_exit=False)
        with otel_ml.configure(meter_provider=provider):
            for turn in range(1, 3):
                observe()
                provider.get_meter("app").create_counter("orders").add(1)
                assert provider.force_flush()
                data: MetricsData = place.kept[-1]
                assert [p.count for p in points(data, "ml.prediction.duration")] == [turn]  # type: ignore[union-attr]  # a histogram
                assert [p.value for p in points(data, "orders")] == [turn]  # type: ignore[union-attr]  # a sum
                names = [metric.name for metric in metrics(data)]
                assert len(names) == len(set(names))
                assert {r.resource.attributes["service.name"] for r in data.resource_metrics} == {"host"}
                assert "otel_ml.replay" not in {s.scope.name for r in data.resource_metrics for s in r.scope_metrics}
        provider.shutdown()

    def test_works_where_the_host_has_no_instrument(self) -> None:
        """Our points alone are reason enough to export."""
        place = Metrics()
        reader = PeriodicExportingMetricReader(exporters.Merging(place), export_interval_millis=3_600_000)
        provider = MeterProvider([reader], shutdown_on_exit=False)
        with otel_ml.configure(meter_provider=provider):
            observe()
            assert provider.force_flush()
        provider.shutdown()

        assert [p.count for p in points(place.kept[0], "ml.prediction.duration")] == [1]  # type: ignore[union-attr]  # a histogram


class TestGlobalProviders:
    """In processes of their own: the API lets global providers be set once."""

    def program(self, body: str) -> str:
        """Run a program and return what it prints."""
        head = """
import otel_ml
from opentelemetry import trace, metrics, _logs
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
names = lambda: [span.name for span in kept.get_finished_spans()]
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", head + body],
            env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip() + done.stderr.strip()

    def test_ours_become_global_where_none_are_set(self) -> None:
        """Instrumentations that go by the global providers send to our exporters, and are parents of our calls."""
        printed = self.program("""
telemetry = otel_ml.configure(exporters=[SimpleSpanProcessor(kept)])
assert trace.get_tracer_provider() is telemetry.tracer_provider
assert metrics.get_meter_provider() is telemetry.meter_provider
assert _logs.get_logger_provider() is telemetry.logger_provider
with trace.get_tracer("app").start_as_current_span("request"), otel_ml.predict("m"):
    pass
call, request = kept.get_finished_spans()
assert call.parent == request.context
print(names())
""")
        assert printed == "['predict m', 'request']"

    def test_ours_are_not_taken_for_a_hosts(self) -> None:
        """Configured again, or unconfigured after a shutdown, our own former providers are not joined."""
        printed = self.program("""
first = otel_ml.configure(exporters=[])
otel_ml.shutdown()
with otel_ml.predict("m"):
    pass
processor = SimpleSpanProcessor(kept)
second = otel_ml.configure(exporters=[processor])
assert second.tracer_provider is not first.tracer_provider
try:
    otel_ml.configure(exporters=[processor], join=True)
except otel_ml.ConfigurationError:
    print("nobody to join")
with otel_ml.predict("m"):
    pass
print(names())
""")
        assert printed == "nobody to join\n['predict m']"

    def test_a_second_configuration_takes_what_global_providers_make(self) -> None:
        """Spans, records and instruments of OpenTelemetry's global API go where the last `configure()` says, once."""
        printed = self.program("""
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics import Counter
from tests.recorder import Recorder
counter = metrics.get_meter("app").create_counter("orders")
logger, records = _logs.get_logger("app"), InMemoryLogRecordExporter()

def work(place):
    place.forget()
    with trace.get_tracer("app").start_as_current_span("request"):
        counter.add(2)
        logger.emit(event_name="mine")
    assert otel_ml.flush(10.0)
    events = [event.log_record.event_name for event in place.events]
    return [span.name for span in place.spans], events, place.value("orders")

first, second = Recorder(), Recorder({Counter: AggregationTemporality.DELTA})
otel_ml.configure(service="first", exporters=[first])
assert work(first) == (["request"], ["mine"], 2)
otel_ml.configure(exporters=[second, SimpleSpanProcessor(kept), SimpleLogRecordProcessor(records)])
first.forget()
for _ in range(2):
    # Deltas, as the second place prefers them.
    assert work(second) == (["request"], ["mine"], 2)
assert otel_ml.health().exporters[0].signals["spans"].delivered == 2
assert otel_ml.health().exporters[0].signals["metrics"].delivered >= 2
assert names() == ["request", "request"]
assert len(records.get_finished_logs()) == 2
assert (first.spans, first.events, first.collections) == ([], [], [])

assert otel_ml.shutdown()
kept.clear()
trace.get_tracer("app").start_span("nobody takes it").end()
assert otel_ml.health().exporters[0].signals["spans"].dropped == {"shutdown": 1}
third, fourth = Recorder(), Recorder()
otel_ml.configure(exporters=[third])
assert work(third) == (["request"], ["mine"], 2)
otel_ml.configure(exporters=[third, fourth])
assert work(fourth) == (["request"], ["mine"], 2)
assert work(third) == (["request"], ["mine"], 4)
metrics.get_meter_provider().force_flush()
second.forget()
otel_ml.configure(exporters=[second], set_global=False)
assert work(second) == ([], [], 0)
print("done")
""")
        # What is made after a shutdown is told about on standard error.
        assert printed.startswith("done")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_child_takes_what_global_providers_make(self) -> None:
        """In a forked child too, spans of the global API go where the last `configure()` of the child or its parent says."""
        printed = self.program("""
import os
from tests.recorder import Recorder
places = [Recorder() for _ in range(3)]
for place in places[:2]:
    otel_ml.configure(exporters=[place])

def work(place):
    trace.get_tracer("app").start_span("request").end()
    assert otel_ml.flush(10.0)
    assert [span.name for span in place.spans] == ["request"]

child = os.fork()
if not child:
    with otel_ml.predict("m"):
        pass
    otel_ml.flush(10.0)
    places[1].forget()
    work(places[1])
    otel_ml.configure(exporters=[places[2]])
    work(places[2])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
work(places[1])
print("done")
""")
        assert printed == "done"

    def test_a_host_is_found_again(self) -> None:
        """What was joined before is no provider of ours: `configure()` after `configure()` joins the host as the first did."""
        printed = self.program("""
from tests.recorder import Recorder
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)

def joined():
    kept.clear()
    with otel_ml.predict("m"):
        pass
    return names() == ["predict m"]

while not joined():
    pass
assert otel_ml.configure().tracer_provider is provider and joined()
assert otel_ml.configure().tracer_provider is provider and joined()
place = Recorder()
otel_ml.configure(exporters=[place], join=True)
assert joined() and otel_ml.flush(10.0) and len(place.spans) == 1
otel_ml.configure(exporters=[place], join=True)
assert joined() and otel_ml.flush(10.0) and len(place.spans) == 2
print("done")
""")
        assert printed == "done"

    def test_set_global_false(self) -> None:
        """Nothing global is set."""
        printed = self.program("""
otel_ml.configure(exporters=[SimpleSpanProcessor(kept)], set_global=False)
print(type(trace.get_tracer_provider()).__name__)
""")
        assert printed == "ProxyTracerProvider"

    def test_a_host_joined_at_the_first_call_of_a_real_program(self) -> None:
        """The whole story with the real API: decorators first, providers later, no configure at all."""
        printed = self.program("""
@otel_ml.predict
def score(n):
    return n
assert score(1) == 1
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
while not names():
    score(1)
with trace.get_tracer("app").start_as_current_span("request"):
    score(1)
print(names()[-2:])
""")
        assert printed == "['predict score', 'request']"

    def test_a_program_without_the_sdk_never_loads_it(self) -> None:
        """Where nothing is configured and the host has no SDK, calls do not import it."""
        body = """
import sys, time, otel_ml

@otel_ml.predict
def score(): pass

end = time.monotonic() + 1.2
while time.monotonic() < end:
    score()
with otel_ml.predict('m') as call, otel_ml.train('m') as run:
    call.set(a=1)
    run.log(loss=1.0)
otel_ml.feedback('a', actual=1)
print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])
"""
        done = subprocess.run(
            [sys.executable, "-c", body],
            env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.strip() == "[]", done.stderr


def test_lines_are_logged_by_one_logger(global_host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is told, is told by the logger `otel_ml`, so that it can be silenced."""
    caplog.set_level(logging.INFO)
    otel_ml.configure(exporters=[Recorder()])

    assert {record.name for record in caplog.records} <= {"otel_ml"}
