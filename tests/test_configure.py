"""`configure`: what it refuses, where settings come from, and what becomes of the configuration before."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_ml
from otel_ml import exporters
from otel_ml._delivery import Parts
from tests.recorder import Events, Metrics, Recorder, Spans, points, same_rules

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")


def two_sentences(error: pytest.ExceptionInfo[otel_ml.ConfigurationError]) -> None:
    """The message says what is wrong, and what to type."""
    first, *rest = SENTENCE.split(str(error.value))
    assert len(rest) == 1, str(error.value)
    assert re.search(r"[a-z_]+=|otel_ml\.|Write|Use|Pass|Leave|Put|[Ss]et", rest[0]), rest[0]
    assert isinstance(error.value, otel_ml.OtelMLError)
    assert isinstance(error.value, ValueError)
    assert first


class Unbuildable:
    """An exporter whose `build` fails."""

    def build(self, resource: Resource) -> Parts:
        raise ZeroDivisionError

    def describe(self) -> str:
        return "nowhere"


TAKEN, TWICE = InMemoryMetricReader(), InMemoryMetricReader()
OTHERS = MeterProvider([TAKEN], shutdown_on_exit=False)

WRONG: dict[str, dict[str, object]] = {
    "sampling text": {"sampling": "all"},
    "sampling percent": {"sampling": 10},
    "sampling negative": {"sampling": -0.1},
    "sampling nan": {"sampling": float("nan")},
    "sampling bool": {"sampling": True},
    "slow zero": {"keep_slower_than": 0},
    "slow text": {"keep_slower_than": "1s"},
    "slow infinite": {"keep_slower_than": float("inf")},
    "interval zero": {"interval": 0},
    "interval negative": {"interval": -5.0},
    "interval text": {"interval": "5"},
    "service number": {"service": 5},
    "service empty": {"service": " "},
    "resource list": {"resource": ["a"]},
    "resource key": {"resource": {1: "a"}},
    "resource empty key": {"resource": {"": "a"}},
    "resource value": {"resource": {"a": object()}},
    "resource list of objects": {"resource": {"a": ["b", object()]}},
    "exporters alone": {"exporters": exporters.Console()},
    "exporters text": {"exporters": "otlp"},
    "exporters of text": {"exporters": ["otlp"]},
    "exporters of numbers": {"exporters": [5]},
    "exporters of None": {"exporters": [None]},
    "exporters that make nothing": {"exporters": [lambda: None]},
    "exporters that fail": {"exporters": [lambda: 1 / 0]},
    "exporters that cannot be made": {"exporters": [lambda: exporters.OTLP("nowhere")]},
    "exporters that cannot be built": {"exporters": [Unbuildable()]},
    "reader of another": {"exporters": [TAKEN]},
    "reader given twice": {"exporters": [TWICE, TWICE]},
    "exporters mapping": {"exporters": {"otlp": 1}},
    "tracer provider": {"tracer_provider": MeterProvider([], shutdown_on_exit=False)},
    "tracer provider of the API": {"tracer_provider": trace.ProxyTracerProvider()},
    "meter provider": {"meter_provider": "global"},
    "logger provider": {"logger_provider": 5},
    "sampling of a host": {"sampling": 0.5, "tracer_provider": TracerProvider(shutdown_on_exit=False)},
    "join": {"join": "yes"},
    "join with nobody": {"exporters": [], "join": True},
    "join what is not to be joined": {"join": False, "tracer_provider": TracerProvider(shutdown_on_exit=False)},
    "set_global": {"set_global": 1},
    "current": {"current": None},
}


class TestWrongArguments:
    @pytest.mark.parametrize("name", WRONG)
    def test_of_configure_raise_at_once(self, name: str) -> None:
        """Each raises our own error, in two sentences: what is wrong, and what to type."""
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.configure(**WRONG[name])  # type: ignore[arg-type]  # that is the point

        two_sentences(error)

    @pytest.mark.parametrize("name", WRONG)
    def test_leave_what_was_configured(self, name: str) -> None:
        """A wrong call changes nothing: what was configured before goes on."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)

        with pytest.raises(otel_ml.ConfigurationError):
            otel_ml.configure(**WRONG[name])  # type: ignore[arg-type]  # that is the point

        with otel_ml.predict("m"):
            pass
        assert otel_ml.flush(10.0)
        assert len(place.spans) == 1

    def test_of_an_exporters_function_have_their_cause(self) -> None:
        """What a function in the list raised is the cause of our error; what other functions have made is closed."""
        made = Spans()
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.configure(exporters=[lambda: made, lambda: 1 / 0])  # type: ignore[list-item, return-value]  # that is the point

        assert isinstance(error.value.__cause__, ZeroDivisionError)
        assert made.closed == 1

    def test_leave_readers_to_be_used_again(self) -> None:
        """A reader that was in a list that was refused can be in the next one."""
        reader = InMemoryMetricReader()
        with pytest.raises(otel_ml.ConfigurationError):
            otel_ml.configure(exporters=[reader, TAKEN])
        otel_ml.configure(exporters=[reader], set_global=False)
        observe()

        assert reader.get_metrics_data() is not None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"model": ""},
            {"model": "m", "version": 3},
            {"model": "m", "version": " "},
            {"model": "m", "id": 5},
            {"model": "m", "at": ["when"]},
            {"model": "m", "output": "label"},
            {"model": "m", "labels": ["a"]},
            {"model": "m", "labels": {"a": ...}},
            {"model": "m", "labels": {"a": ["b"]}},
            {"model": "m", "labels": {1: "a"}},
            {"model": "m", "labels": {1: "a", "b": "c"}},
            {"model": "m", "spans": "no"},
            {"model": "m", "spans": 0},
        ],
        ids=repr,
    )
    def test_of_predict_raise_at_once(self, wrong: dict[str, object]) -> None:
        """They raise where they are written, not when the function is called, and never in silence."""
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.predict(**wrong)  # type: ignore[call-overload]  # that is the point

        two_sentences(error)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"model": " "},
            {"model": "m", "version": 3},
            {"model": "m", "params": [1]},
            {"model": "m", "labels": "a"},
            {"model": "m", "labels": {"a": None}},
        ],
        ids=repr,
    )
    def test_of_train_raise_at_once(self, wrong: dict[str, object]) -> None:
        """Those of `train` likewise."""
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.train(**wrong)  # type: ignore[call-overload]  # that is the point

        two_sentences(error)

    @pytest.mark.parametrize("decorator", [otel_ml.predict, otel_ml.train])
    @pytest.mark.parametrize("what", [5, ["a"], 0.5])
    def test_to_decorate_raise_at_once(self, decorator: Callable[..., object], what: object) -> None:
        """Only what can be called can be decorated, bare or with options."""
        for decorate in (decorator, decorator("m")):
            with pytest.raises(otel_ml.ConfigurationError) as error:
                decorate(what)  # type: ignore[operator]  # a decorator
            two_sentences(error)

    @pytest.mark.parametrize("option", ["id", "at"])
    def test_an_argument_that_the_function_does_not_have(self, option: str) -> None:
        """`id=` and `at=` must name an argument of the function, unless it takes any; the message lists them."""

        def score(customer: str, rows: list[float]) -> None: ...

        with pytest.raises(otel_ml.ConfigurationError, match="customer, rows") as error:
            otel_ml.predict(model="m", **{option: "transaction"})(score)  # type: ignore[call-overload]  # likewise

        two_sentences(error)
        otel_ml.predict(model="m", **{option: "transaction"})(lambda **rows: None)  # type: ignore[call-overload]  # likewise

    def test_of_with_blocks_raise_before_the_block(self) -> None:
        """A block needs a model's name, and has no arguments that `id=` or `at=` could name."""
        with otel_ml.predict("m"):
            pass
        for block in (otel_ml.predict(), otel_ml.predict("m", id="x"), otel_ml.predict("m", at="x"), otel_ml.train()):
            with pytest.raises(otel_ml.ConfigurationError) as error, block:
                raise AssertionError
            two_sentences(error)

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("OTEL_ML_EXPORTERS", "otpl"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "many"),
            # The SDK reads it since 1.45.
            pytest.param("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "many", marks=same_rules),
        ],
    )
    def test_in_variables(self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
        """A variable that cannot be used is told about in the same way."""
        monkeypatch.setenv(variable, value)
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.configure(exporters=[] if "LIMIT" in variable else None)

        two_sentences(error)
        assert value in str(error.value)
        assert variable in str(error.value)

    @pytest.mark.parametrize(
        "text",
        [
            "tool.otel_ml = 5",
            "[tool.otel_ml]\nexporter = ['local']",
            "[tool.otel_ml]\nexporters = 'otlp'",
            "[tool.otel_ml]\nexporters = ['otpl']",
            "[tool.otel_ml]\nexporters = [5]",
            "[tool.otel_ml]\nsampling = 'half'",
            "[tool.otel_ml]\nsampling = 5",
            "[tool.otel_ml]\ninterval = 0",
            "[tool.otel_ml]\nkeep_slower_than = 'never'",
            "[tool.otel_ml]\nservice = 5",
            "[tool.otel_ml]\nresource = ['a']",
        ],
    )
    def test_in_pyproject(self, workdir: Path, text: str) -> None:
        """A setting in pyproject.toml that cannot be used is told about too."""
        (workdir / "pyproject.toml").write_text(text, encoding="utf-8")
        with pytest.raises(otel_ml.ConfigurationError) as error:
            otel_ml.configure()

        two_sentences(error)


class TestWhereSettingsComeFrom:
    def settings(self, workdir: Path, **values: str) -> None:
        """Write pyproject.toml."""
        lines = ["[tool.otel_ml]", *(f"{key} = {value}" for key, value in values.items())]
        (workdir / "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")

    def test_service(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Argument, then OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES, then pyproject, then what the SDK calls it."""

        def service(**arguments: object) -> object:
            otel_ml.configure(exporters=[place := Recorder()], set_global=False, **arguments)  # type: ignore[arg-type]  # a name
            return place.resource.attributes["service.name"]

        assert str(service()).startswith("unknown_service")
        self.settings(workdir, service='"from pyproject"')
        assert service() == "from pyproject"
        assert service(resource={"service.name": "from argument"}) == "from argument"
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=from%20attributes")
        assert service() == "from attributes"
        monkeypatch.setenv("OTEL_SERVICE_NAME", "from variable")
        assert service() == "from variable"
        assert service(service="from argument") == "from argument"

    def test_resource(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Attributes of all places come together; the argument wins, and each process has an instance id of its own."""
        self.settings(workdir, resource='{ a = "pyproject", b = "pyproject", c = "pyproject" }')
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "d=variable,a=variable,c=variable")
        otel_ml.configure(exporters=[place := Recorder()], set_global=False, resource={"a": "argument", "n": 3})
        first = dict(place.resource.attributes)
        assert {key: first[key] for key in "abcdn"} == {
            "a": "argument", "b": "pyproject", "c": "variable", "d": "variable", "n": 3,
        }  # fmt: skip
        assert first["telemetry.distro.name"] == "otel-ml"
        assert first["telemetry.sdk.name"] == "opentelemetry"

        otel_ml.configure(exporters=[place := Recorder()], set_global=False)
        assert place.resource.attributes["service.instance.id"] != first["service.instance.id"]
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
        otel_ml.configure(exporters=[place := Recorder()], set_global=False)
        assert place.resource.attributes["service.instance.id"] == "mine"

    @pytest.mark.parametrize(
        ("argument", "variable", "pyproject", "expected"),
        [
            (None, None, None, 1.0),
            (None, None, "0.0", 0.0),
            (None, "always_off", "1.0", 0.0),
            (None, "always_on", "0.0", 1.0),
            (1.0, "always_off", "0.0", 1.0),
            (0.0, "always_on", "1.0", 0.0),
        ],
    )
    def test_sampling(
        self,
        workdir: Path,
        monkeypatch: pytest.MonkeyPatch,
        argument: float | None,
        variable: str | None,
        pyproject: str | None,
        expected: float,
    ) -> None:
        """Argument, then OTEL_TRACES_SAMPLER, then pyproject, then everything."""
        if pyproject is not None:
            self.settings(workdir, sampling=pyproject)
        if variable is not None:
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", variable)
        otel_ml.configure(exporters=[place := Recorder()], sampling=argument, keep_slower_than=None, set_global=False)
        with otel_ml.predict("m"):
            pass

        assert otel_ml.flush(10.0)
        assert len(place.spans) == expected

    @pytest.mark.parametrize(
        ("argument", "pyproject", "kept"), [({}, None, 1), ({}, "1e9", 0), ({"keep_slower_than": None}, "1e-9", 0)]
    )
    def test_keep_slower_than(self, workdir: Path, argument: dict[str, None], pyproject: str | None, kept: int) -> None:
        """Argument (None too), then pyproject, then half a second; failed calls are kept either way."""
        if pyproject is not None:
            self.settings(workdir, keep_slower_than=pyproject)
        otel_ml.configure(exporters=[place := Recorder()], sampling=0.0, set_global=False, **argument)  # type: ignore[arg-type]  # None
        with otel_ml.predict("m"):
            threading.Event().wait(0.51 if kept else 0.001)
        with pytest.raises(ZeroDivisionError), otel_ml.predict("m"):
            raise ZeroDivisionError

        assert otel_ml.flush(10.0)
        assert len(place.spans) == kept + (argument == {})

    def test_interval(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Argument, then OTEL_METRIC_EXPORT_INTERVAL, for every exporter, then pyproject, then the exporter's own."""

        def intervals(**arguments: float) -> list[float]:
            state = otel_ml.configure(exporters=[Recorder(), Metrics()], set_global=False, **arguments).state  # type: ignore[arg-type]  # a number
            return [sink.parts.interval for sink in state.sinks]

        assert intervals() == [3_600.0, 60.0]
        self.settings(workdir, interval="7")
        assert intervals() == [7.0, 7.0]
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "9000")
        assert intervals() == [9.0, 9.0]
        assert intervals(interval=11.0) == [11.0, 11.0]

    def test_exporters(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Argument, then OTEL_ML_EXPORTERS, then OpenTelemetry's variables, then pyproject, then the local store."""

        def places(**arguments: object) -> list[str]:
            telemetry = otel_ml.configure(set_global=False, **arguments)  # type: ignore[arg-type]  # exporters
            return [exporter.name.partition("-")[0] for exporter in telemetry.health().exporters]

        assert places() == ["local"]
        self.settings(workdir, exporters='["console", "local"]')
        assert places() == ["console", "local"]
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
        assert len(places()) == 1
        assert places() != ["local"]
        monkeypatch.setenv("OTEL_ML_EXPORTERS", "local")
        assert places() == ["local"]
        monkeypatch.setenv("OTEL_ML_EXPORTERS", "none")
        assert places() == []
        assert places(exporters=[Recorder()]) == ["recorder"]
        assert places(exporters=[]) == []

    def test_signals_by_signal(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_{TRACES,METRICS,LOGS}_EXPORTER choose for each signal; `none` means none."""
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp,console")
        telemetry = otel_ml.configure(set_global=False)

        found = sorted(tuple(sorted(exporter.signals)) for exporter in telemetry.health().exporters)
        assert found == [("events",), ("events", "spans")]

    def test_of_the_nearest_pyproject(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The nearest pyproject.toml at or above the current folder counts, whether it says anything about us or not."""
        self.settings(workdir, service='"outer"')
        inner = workdir / "a" / "b"
        inner.mkdir(parents=True)
        monkeypatch.chdir(inner)

        def service() -> object:
            otel_ml.configure(exporters=[place := Recorder()], set_global=False)
            return place.resource.attributes["service.name"]

        assert service() == "outer"
        (workdir / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
        assert str(service()).startswith("unknown_service")
        (workdir / "a" / "pyproject.toml").write_text("not [toml", encoding="utf-8")
        assert str(service()).startswith("unknown_service")


class Processor(SpanProcessor, LogRecordProcessor):
    """A span processor and log record processor in one, that counts."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.emitted: list[str | None] = []
        self.closed = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.emitted.append(log_record.log_record.event_name)

    def shutdown(self) -> None:
        self.closed += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def observe() -> None:
    """Make one span, one point and two events."""
    with otel_ml.predict("m"):
        pass
    with otel_ml.train("m"):
        pass


class TestConfiguredAgain:
    def test_the_former_is_closed(self) -> None:
        """The whole state is replaced; the former's exporters have got everything and are shut down, once."""
        first, second = Recorder(), Recorder()
        former = otel_ml.configure(exporters=[first], set_global=False)
        observe()
        otel_ml.configure(exporters=[second], set_global=False)
        observe()
        assert otel_ml.flush(10.0)

        for place in (first, second):
            assert len(place.spans) == 2
            assert len(place.events) == 2
            assert place.value("ml.prediction.duration") == 1
        assert (first._spans.closed, first._metrics.closed, first._events.closed) == (1, 1, 1)
        assert second._spans.closed == 0
        assert former.shutdown()
        assert first._spans.closed == 1
        assert former.health().exporters[0].signals["spans"].delivered == 2

    def test_an_object_in_both_lives_on(self) -> None:
        """Exporters, processors and readers that are in both lists are not shut down, and go on working."""
        spans, metrics, events = Spans(), Metrics(), Events()
        processor, log_processor, gone = Processor(), Processor(), Processor()
        both: Sequence[object] = (spans, metrics, events, processor, log_processor)
        otel_ml.configure(exporters=[*both, gone], set_global=False)  # type: ignore[list-item]  # places
        observe()
        new = Processor()
        otel_ml.configure(exporters=[*both, new], set_global=False)  # type: ignore[list-item]  # places
        observe()
        assert otel_ml.flush(10.0)

        assert [one.closed for one in (spans, metrics, events, processor, gone, new)] == [0, 0, 0, 0, 1, 0]
        assert len(spans.kept) == 4
        assert len(events.kept) == 4
        assert sum(p.count for data in metrics.kept[-1:] for p in points(data, "ml.prediction.duration")) == 1  # type: ignore[union-attr]  # a histogram
        assert len(processor.ended) == 4
        assert len(new.ended) == 2

        assert otel_ml.shutdown()
        assert [one.closed for one in (spans, metrics, events, processor, gone, new)] == [1, 1, 1, 1, 1, 1]

    def test_a_reader_in_both_lives_on(self) -> None:
        """A metric reader can be in one configuration after the other, too."""
        reader = InMemoryMetricReader()
        for _ in range(2):
            otel_ml.configure(exporters=[reader], set_global=False)
            observe()
            data = reader.get_metrics_data()
            assert data is not None
            assert sum(p.count for p in points(data, "ml.prediction.duration")) == 1  # type: ignore[union-attr]  # a histogram

    def test_functions_make_their_exporter_anew(self) -> None:
        """A function in the list is called by each `configure()`; what it made before is shut down."""
        made: list[Spans] = []

        def make() -> Spans:
            made.append(Spans())
            return made[-1]

        otel_ml.configure(exporters=[make], set_global=False)
        observe()
        otel_ml.configure(exporters=[make], set_global=False)
        assert [one.closed for one in made] == [1, 0]
        assert len(made[0].kept) == 2

    def test_a_function_may_open_what_the_former_has_open(self) -> None:
        """A port that the former configuration listens on is left before a function that wants it is called again."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

        class Listening(Spans):
            def __init__(self) -> None:
                super().__init__()
                self._server = socket.create_server(("127.0.0.1", port), reuse_port=False)

            def shutdown(self) -> None:
                super().shutdown()
                self._server.close()

        otel_ml.configure(exporters=[Listening], set_global=False)
        observe()
        otel_ml.configure(exporters=[Listening], set_global=False)
        observe()
        assert otel_ml.flush(10.0)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))

    def test_one_after_the_other_never_mix(self) -> None:
        """Providers, resources, ids remembered and series belong to a configuration."""
        first, second = Recorder(), Recorder()
        one = otel_ml.configure(service="one", exporters=[first], set_global=False)
        tracer, counter = one.tracer_provider.get_tracer("app"), one.meter_provider.get_meter("app").create_counter("n")
        observe()
        two = otel_ml.configure(service="two", exporters=[second], set_global=False)
        tracer.start_span("late").end()
        counter.add(1)
        observe()
        assert otel_ml.flush(10.0)

        assert {span.resource.attributes["service.name"] for span in first.spans} == {"one"}
        assert {span.resource.attributes["service.name"] for span in second.spans} == {"two"}
        assert [span.name for span in (*first.named("late"), *second.named("late"))] == []
        assert second.points("n") == []
        assert one.tracer_provider is not two.tracer_provider
        assert second.value("ml.prediction.duration") == 1
        # The user's own late span is accounted for.
        assert one.health().exporters[0].signals["spans"].dropped == {"shutdown": 1}

    def test_the_same_calls_from_many_threads(self) -> None:
        """Threads that call while another configures again and again never fail, and every call is accounted for."""
        going, calls = [True], [0]
        places = [Recorder() for _ in range(10)]
        handles = [otel_ml.configure(exporters=[places[0]], set_global=False)]

        @otel_ml.predict(model="m")
        def score() -> None: ...

        def run() -> None:
            while going[0]:
                score()
                with otel_ml.predict("m") as call:
                    call.set(a=1)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for place in places[1:]:
            handles.append(otel_ml.configure(exporters=[place], set_global=False))
        going[0] = False
        for thread in threads:
            thread.join()
        assert otel_ml.flush(10.0)
        assert calls == [0]
        for place, handle in zip(places, handles, strict=True):
            (exporter,) = handle.health().exporters
            account = exporter.signals["spans"]
            assert account.delivered == len(place.spans)
            assert account.queued == 0
        assert places[-1].value("ml.prediction.active") == 0


class TestTelemetry:
    def test_is_a_context_manager(self) -> None:
        """Leaving the block sends everything and shuts down; afterwards nothing is observed."""
        place = Recorder()
        with otel_ml.configure(exporters=[place], set_global=False) as telemetry:
            observe()
        observe()

        assert len(place.spans) == 2
        assert place._spans.closed == 1
        assert repr(otel_ml.current()) == "<nothing observed>"
        assert telemetry.shutdown()
        assert telemetry.flush()

    def test_hands_out_standard_providers(self) -> None:
        """Spans, instruments and log records of the user's own go to the same places, under the same resource."""
        place, processor = Recorder(), Processor()
        reader = InMemoryMetricReader()
        telemetry = otel_ml.configure(exporters=[place, processor, reader], set_global=False)
        tracer = telemetry.tracer_provider.get_tracer("app", "1.0")
        with tracer.start_as_current_span("request"), otel_ml.predict("m"):
            pass
        telemetry.meter_provider.get_meter("app").create_counter("orders").add(3)
        telemetry.logger_provider.get_logger("app").emit(event_name="mine")
        assert telemetry.flush(10.0)

        call, request = place.spans
        assert (call.name, request.name) == ("predict m", "request")
        assert call.parent == request.context
        assert request.resource is place.resource
        assert place.value("orders") == 3
        assert [event.log_record.event_name for event in place.events] == ["mine"] == processor.emitted
        assert processor.ended == ["predict m", "request"]
        data = reader.get_metrics_data()
        assert data is not None
        assert [p.value for p in points(data, "orders")] == [3]  # type: ignore[union-attr]  # a sum
        spans = telemetry.health().exporters[0].signals["spans"]
        assert (spans.created, spans.delivered) == (2, 2)

    def test_processors_added_later_see_our_spans(self) -> None:
        """A processor added to our provider, as instrumentations do, gets our light spans too."""
        telemetry = otel_ml.configure(exporters=[Recorder()], set_global=False)
        with otel_ml.predict("m"):
            pass
        processor = Processor()
        telemetry.tracer_provider.add_span_processor(processor)  # type: ignore[attr-defined]  # an SDK provider
        observe()

        assert processor.ended == ["predict m", "train m"]

    def test_every_kind_of_place(self) -> None:
        """Our exporters and the six standard kinds work side by side in one list."""
        ours, spans, metrics, events = Recorder(), Spans(), Metrics(), Events()
        simple, periodic, batched = Spans(), Metrics(), Events()
        otel_ml.configure(
            exporters=[
                ours,
                spans,
                metrics,
                events,
                SimpleSpanProcessor(simple),
                PeriodicExportingMetricReader(periodic, export_interval_millis=3_600_000),
                BatchLogRecordProcessor(batched),
            ],
            set_global=False,
        )
        observe()
        assert otel_ml.flush(10.0)

        assert [len(one.kept) for one in (spans, simple)] == [2, 2] == [len(ours.spans), 2]
        assert [len(one.kept) for one in (events, batched)] == [2, 2] == [len(ours.events), 2]
        for data in (metrics.kept[-1], periodic.kept[-1], ours.collections[-1]):
            assert sum(p.count for p in points(data, "ml.prediction.duration")) == 1  # type: ignore[union-attr]  # a histogram
        assert otel_ml.shutdown()
        assert [one.closed for one in (spans, simple, metrics, periodic, events, batched)] == [1] * 6

    def test_disabled_by_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_SDK_DISABLED: `configure()` still checks its arguments, and builds nothing."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
        with pytest.raises(otel_ml.ConfigurationError):
            otel_ml.configure(sampling=5)
        place = Recorder()
        telemetry = otel_ml.configure(exporters=[place])
        observe()

        assert telemetry.flush()
        assert telemetry.health().exporters == ()
        assert place.spans == []
        assert telemetry.shutdown()

    def test_unconfigured_functions_answer(self) -> None:
        """`flush`, `shutdown` and `health` work before anything is configured."""
        assert otel_ml.flush()
        assert otel_ml.shutdown()
        assert otel_ml.health().ok or otel_ml.health().exporters

    def test_flush_and_shutdown_keep_their_time(self, caplog: pytest.LogCaptureFixture) -> None:
        """With a place that never answers, both come back in time and say False; what was lost is counted."""
        gate = threading.Event()

        class Stuck(Spans):
            def export(self, spans: Sequence[ReadableSpan]) -> object:  # type: ignore[override]  # never returns
                gate.wait(30.0)
                return super().export(spans)

        caplog.set_level(logging.CRITICAL)
        telemetry = otel_ml.configure(exporters=[Stuck()], set_global=False)
        observe()
        assert telemetry.flush(0.05) is False
        assert telemetry.shutdown(0.05) is False
        account = telemetry.health().exporters[0].signals["spans"]
        gate.set()
        assert account.created == 2
        assert sum(account.dropped.values()) == 2


class TestTenants:
    def test_several_in_one_process(self) -> None:
        """Telemetry made with `current=False` observes its own blocks, and nothing else; one function serves all."""
        default, places = Recorder(), {name: Recorder() for name in ("a", "b")}
        otel_ml.configure(exporters=[default], set_global=False)
        tenants = {
            name: otel_ml.configure(service=name, exporters=[place], current=False) for name, place in places.items()
        }

        @otel_ml.predict(model="m", id="key")
        def score(key: str) -> str:
            return "x"

        def serve(name: str) -> None:
            for _ in range(50):
                with tenants[name].use():
                    score(name)
                    with otel_ml.predict("inner"):
                        pass
                    otel_ml.feedback(name, actual="x")

        threads = [threading.Thread(target=serve, args=(name,)) for name in places]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        score("default")

        for name, place in places.items():
            assert tenants[name].flush(10.0)
            assert len(place.spans) == 100
            assert {span.resource.attributes["service.name"] for span in place.spans} == {name}
            assert {event["ml.prediction.id"] for event in place.events_named("ml.ground_truth.received")} == {name}
            assert place.value("ml.prediction.active") == 0
            assert tenants[name].shutdown()
        assert otel_ml.flush(10.0)
        assert len(default.spans) == 1
        score("default")
        assert otel_ml.flush(10.0)
        assert len(default.spans) == 2

    def test_functions_of_the_module_speak_for_the_tenant(self) -> None:
        """In a tenant's block `flush`, `health` and `shutdown` are the tenant's, and outside of it the default's."""
        default, place = Recorder(delay=30.0), Recorder(delay=30.0)
        otel_ml.configure(exporters=[default], set_global=False)
        tenant = otel_ml.configure(exporters=[place], current=False)
        with otel_ml.predict("m"):
            pass
        with tenant.use():
            observe()
            assert otel_ml.flush(10.0)
            assert (len(place.spans), len(default.spans)) == (2, 0)
            assert otel_ml.health() == tenant.health()
            assert otel_ml.shutdown()
        assert otel_ml.health() != tenant.health()
        assert (place._spans.closed, default._spans.closed) == (1, 0)
        assert otel_ml.flush(10.0)
        assert len(default.spans) == 1

    def test_without_a_default(self) -> None:
        """Outside of a tenant's block nothing is observed when nothing is configured."""
        place = Recorder()
        tenant = otel_ml.configure(exporters=[place], current=False)

        @otel_ml.predict
        def score() -> None: ...

        score()
        with tenant.use():
            score()
            with tenant.use():
                score()
            score()
        score()

        assert tenant.flush(10.0)
        assert len(place.spans) == 3
        assert tenant.shutdown()
