"""`exporters.Console`: what a person sees, on a terminal and elsewhere, whatever the names are and wherever it goes."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status, StatusCode

import otel_ml
from otel_ml import _catalog as names
from otel_ml._delivery import DELIVERED, Delivers, Delivery, Parts
from otel_ml.errors import ConfigurationError
from otel_ml.exporters import Console
from otel_ml.exporters._console_lines import duration, safe
from tests.store_records import RESOURCE, Recorder, calls, event, steps

ROOT = Path(__file__).parents[2]
ESCAPE = "\x1b"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.fixture(autouse=True)
def terminal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the terminal that the tests run in."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def built(stream: Any) -> Parts:
    """Return the parts that write to a stream."""
    return Console(stream).build(RESOURCE)


def deliver(part: object, batch: Any) -> Delivery:
    """Hand a batch to a part as the pipeline does."""
    assert isinstance(part, Delivers)
    return part.deliver(batch, time.monotonic() + 5)


def shown(batch: Any, signal: str = "spans", stream: io.StringIO | None = None) -> str:
    """Return what a batch looks like."""
    stream = io.StringIO() if stream is None else stream
    assert deliver(getattr(built(stream), signal), batch) == DELIVERED
    return stream.getvalue()


def span(name: str = "predict churn", work: Callable[[Any], None] | None = None, **attributes: Any) -> Any:
    """Return one ended span."""
    recorder = Recorder()
    made = recorder.tracer.start_span(name, attributes=attributes, start_time=1_700_000_000_000_000_000)
    if work is not None:
        work(made)
    made.end(1_700_000_000_004_210_000)
    return recorder.take()[0]


def call(**more: Any) -> Any:
    """Return the span of a call of the model `churn`."""
    facts = {
        names.OPERATION: names.PREDICT, names.MODEL: "churn", names.BATCH_SIZE: 128, names.OUTCOME: names.SUCCESS, **more
    }  # fmt: skip
    return span(**facts)


class TestCalls:
    def test_a_call_is_one_line(self) -> None:
        """When, which model, how it went, how many rows, how long, and the beginning of its trace id."""
        made = call(**{names.VERSION: "3.2"})
        (line,) = shown([made]).splitlines()

        assert re.fullmatch(
            r"\d\d:\d\d:20\.000  churn 3\.2 +ok +128 rows +4\.21 ms  trace " + f"{made.context.trace_id:032x}"[:8], line
        )

    def test_a_failed_call_names_the_exceptions_class(self) -> None:
        """The outcome and the type of the error; a cancelled or partial call says so too."""
        text = shown([
            call(**{names.OUTCOME: names.ERROR, names.ERROR_TYPE: "ValueError"}),
            call(**{names.OUTCOME: names.CANCELLED}),
            call(**{names.OUTCOME: names.PARTIAL, names.BATCH_SIZE: 1}),
        ])  # fmt: skip

        error, cancelled, partial = text.splitlines()
        assert "  error  " in error
        assert "  ValueError  " in error
        assert "  cancelled  " in cancelled
        assert re.search(r"  partial +1 row  ", partial)

    def test_stages_are_on_the_line_of_their_call(self) -> None:
        """A stage has no line of its own: it stands beside its call, even when that comes in a later batch."""
        recorder = Recorder()
        with recorder.tracer.start_as_current_span("predict churn", attributes={names.MODEL: "churn"}):
            for stage in ("preprocess", "inference"):
                recorder.tracer.start_span(stage, attributes={names.STAGE: stage, names.MODEL: "churn"}).end()
        *stages, outer = recorder.take()
        stream = io.StringIO()
        spans = built(stream).spans

        assert deliver(spans, stages) == DELIVERED
        assert stream.getvalue() == ""
        deliver(spans, [outer])
        assert re.search(r"  preprocess \d+ us, inference \d+ us  ", stream.getvalue())
        assert stream.getvalue().count("\n") == 1

    def test_stages_of_calls_that_never_come_are_forgotten(self) -> None:
        """What waits for its call is bounded."""
        recorder = Recorder()
        spans: Any = built(io.StringIO()).spans
        for _ in range(1_500):
            with recorder.tracer.start_as_current_span("outer"):
                recorder.tracer.start_span("s", attributes={names.STAGE: "s"}).end()
        deliver(spans, [one for one in recorder.take() if one.name == "s"])

        assert len(spans._stages) == 1_000

    def test_spans_of_a_run_have_no_line(self) -> None:
        """What a run does is told by its events, while it goes on."""
        parts = [
            span(**{names.OPERATION: one, names.MODEL: "churn"}) for one in ("train", "epoch", "evaluate", "checkpoint")
        ]

        assert shown(parts) == ""

    def test_ones_own_spans_are_shown_too(self) -> None:
        """A span that is not ours is a line with its name; an error is one by its status."""
        fine, failed = shown([
            span("load features"), span("load labels", lambda s: s.set_status(Status(StatusCode.ERROR, "secret")))
        ]).splitlines()  # fmt: skip

        assert re.search(r"load features +ok +4\.21 ms", fine)
        assert re.search(r"load labels +error +4\.21 ms", failed)
        assert "secret" not in failed

    def test_one_bad_span_costs_one_line(self) -> None:
        """A record that cannot be shown is rejected; the others are shown."""
        stream = io.StringIO()

        assert deliver(built(stream).spans, [*calls(2), object()]) == Delivery(1, "unreadable_record")
        assert stream.getvalue().count("\n") == 2


class TestRuns:
    BASE: dict[str, Any] = {names.MODEL: "churn", names.VERSION: "3.3", names.RUN_ID: "4f2a91bc" * 4}  # noqa: RUF012  # not changed

    def test_a_run_from_beginning_to_end(self) -> None:
        """Its parameters, a line an epoch with the latest of its steps, and how it ended."""
        value = names.TRAINING_VALUE
        batch = [
            event(names.TRAINING_STARTED, {**self.BASE, names.HYPERPARAMETER + "lr": 0.001}),
            event(names.STEP_COMPLETED, {**self.BASE, names.STEP: 1, value + "loss": 0.5}),
            event(names.STEP_COMPLETED, {**self.BASE, names.STEP: 2, value + "loss": 0.23123}),
            event(names.EPOCH_COMPLETED, {
                **self.BASE, names.EPOCH: 3, names.EPOCH_SECONDS: 1.2, value + "val_loss": 0.244,
                value + "best": float("nan"), names.RUN_OUTCOME: names.SUCCESS,
            }),
            event(names.EPOCH_COMPLETED, {**self.BASE, names.EPOCH: 4, names.EPOCH_SECONDS: 200, names.RUN_OUTCOME: "cancelled"}),
            event(names.GROUND_TRUTH, self.BASE),
            event(names.TRAINING_COMPLETED, {
                **self.BASE, names.RUN_OUTCOME: names.ERROR, names.EPOCHS: 4, names.STEPS: 1, names.RUN_SECONDS: 4000.0,
            }),
        ]  # fmt: skip
        started, third, fourth, completed = [line[14:] for line in shown(batch, "events").splitlines()]

        assert started == "churn 3.3         training started  lr 0.001  run 4f2a91bc"
        assert third == "churn 3.3         epoch 3  loss 0.2312  val_loss 0.244  best nan  1.20 s"
        assert fourth == "churn 3.3         epoch 4  cancelled  3 m 20 s"
        assert completed == "churn 3.3         training completed  error  4 epochs  1 step  1 h 06 m  run 4f2a91bc"

    def test_steps_are_live_on_a_terminal(self) -> None:
        """The latest step of a batch is on one line, which the next output replaces."""
        stream = Terminal()
        events = built(stream).events
        deliver(events, steps(20, loss=0.5))
        deliver(events, steps(20, first=20, loss=0.25))
        deliver(events, [event(names.EPOCH_COMPLETED, {**self.BASE, names.EPOCH: 0})])

        first, second, line = stream.getvalue().split(f"\r{ESCAPE}[K")
        assert first == "churn  step 19  loss 0.5"
        assert second == "churn  step 39  loss 0.25"
        assert line.endswith("\n")
        assert "epoch 0" in line

    def test_the_live_line_fits_the_terminal_and_goes_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Never wider than the terminal, and no remains when the program ends."""
        monkeypatch.setenv("COLUMNS", "30")
        stream = Terminal()
        parts = built(stream)
        deliver(parts.events, steps(1, a=1, b=2, c=3, d=4, e=5, f=6, g=7))

        assert len(stream.getvalue()) == 29
        parts.spans.shutdown()
        parts.events.shutdown()
        assert stream.getvalue()[29:] == f"\r{ESCAPE}[K"

    @pytest.mark.parametrize("stream", [io.StringIO, Terminal])
    def test_steps_are_never_live_elsewhere(self, stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
        """In a file, a pipe, or a terminal that cannot go back, a step writes nothing."""
        if stream is Terminal:
            monkeypatch.setenv("TERM", "dumb")

        assert shown(steps(100, loss=0.5), "events", stream()) == ""

    def test_other_events_and_logs(self) -> None:
        """What one's own program says is shown as well, warnings marked."""
        text = shown([
            event("deployed", {"version": "2", "big": 10**30, "deep": (1, 2)}),
            event("", body="disk is nearly full"),
        ], "events")  # fmt: skip

        assert "deployed  version 2  big 1.0000e+30  deep <tuple>" in text
        assert "disk is nearly full" in text

    def test_warnings_are_marked(self) -> None:
        """A severity of warning or more is written out."""
        record = event("", body="x")
        record.log_record.severity_number, record.log_record.severity_text = SeverityNumber.ERROR, None

        assert "  ERROR  x" in shown([record], "events")


class TestSafety:
    NASTY = "churn\x1b[31m\r\n\x07\u202e\u2066\u200f\ud800\u2028\x9b2J"

    @pytest.mark.parametrize("where", ["model", "version", "outcome", "error", "stage", "name"])
    def test_names_cannot_write_on_the_terminal(self, where: str) -> None:
        """No control character, escape sequence, line break or change of direction gets through, wherever it is."""
        facts: dict[str, Any] = {
            "model": {names.MODEL: self.NASTY},
            "version": {names.VERSION: self.NASTY},
            "outcome": {names.OUTCOME: self.NASTY},
            "error": {names.ERROR_TYPE: self.NASTY},
            "stage": {},
            "name": {},
        }[where]
        made = span(self.NASTY) if where == "name" else call(**facts)
        text = shown([made], stream=Terminal()) if where != "stage" else shown(self.staged(), stream=Terminal())

        bare = re.sub(r"\x1b\[[0-9]*m", "", text)
        assert bare.endswith("\n")
        assert bare[:-1].isprintable()
        assert "churn" in bare

    def staged(self) -> list[Any]:
        """Return a call with a stage of a nasty name."""
        recorder = Recorder()
        with recorder.tracer.start_as_current_span("p", attributes={names.MODEL: "churn"}):
            recorder.tracer.start_span("s", attributes={names.STAGE: self.NASTY}).end()
        return recorder.take()

    @pytest.mark.parametrize("where", [names.MODEL, names.RUN_ID, names.TRAINING_VALUE + NASTY, names.RUN_OUTCOME])
    def test_events_cannot_either(self, where: str) -> None:
        """Names and values of runs are escaped, also on the live line."""
        for name in (
            names.STEP_COMPLETED,
            names.EPOCH_COMPLETED,
            names.TRAINING_STARTED,
            names.TRAINING_COMPLETED,
            self.NASTY,
        ):
            text = shown([event(name, {names.MODEL: "churn", where: self.NASTY})], "events", Terminal())

            assert re.sub(r"\x1b\[[0-9]*m", "", text).rstrip("\n").isprintable()

    @given(st.text())
    def test_whatever_the_text_it_is_one_printable_piece(self, text: str) -> None:
        """Escaped, and never longer than a line has room for."""
        assert safe(text).isprintable()
        assert len(safe(text)) <= 60 * 10

    def test_long_names_are_cut(self) -> None:
        """A name of a megabyte is a few characters and three dots."""
        assert safe("x" * 1_000_000) == "x" * 57 + "..."

    def test_objects_are_not_asked_to_show_themselves(self) -> None:
        """A value of an unknown class is the name of its class."""

        class Evil:
            def __repr__(self) -> str:
                raise AssertionError("asked")

            __str__ = __format__ = __repr__

        record = event("x")
        record.log_record.attributes = {"evil": Evil()}

        assert "evil <Evil>" in shown([record], "events")


class TestStreams:
    def test_standard_error_as_it_is_when_a_line_is_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Not as it was when the exporter was made; standard output is the program's own."""
        spans = Console().build(RESOURCE).spans
        deliver(spans, [call()])

        captured = capsys.readouterr()
        assert captured.out == ""
        assert "churn" in captured.err

    def test_colours_on_a_terminal_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Green and red on a terminal; nothing in a file, with NO_COLOR, or on a dumb terminal."""
        batch = [call(), call(**{names.OUTCOME: names.ERROR})]

        assert f"{ESCAPE}[32mok" in shown(batch, stream=Terminal())
        assert f"{ESCAPE}[31merror" in shown(batch, stream=Terminal())
        assert ESCAPE not in shown(batch)
        monkeypatch.setenv("NO_COLOR", "1")
        assert ESCAPE not in shown(batch, stream=Terminal())
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert ESCAPE not in shown(batch, stream=Terminal())

    def test_the_columns_line_up_with_and_without_colours(self) -> None:
        """Colours take no room."""
        batch = [call(**{names.BATCH_SIZE: 1}), call(**{names.OUTCOME: names.CANCELLED, names.BATCH_SIZE: 100_000})]
        coloured = re.sub(r"\x1b\[[0-9]*m", "", shown(batch, stream=Terminal()))

        assert coloured == shown(batch)
        first, second = coloured.splitlines()
        assert first.index(" ms") == second.index(" ms")
        assert first.index(" row") == second.index(" row")

    def test_a_stream_that_knows_ascii_only(self) -> None:
        """What it cannot encode is escaped, not lost."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")

        assert deliver(built(stream).spans, [call(**{names.MODEL: "M\u00fcnchen"})]) == DELIVERED
        assert b"M\\xfcnchen" in raw.getvalue()

    def test_a_stream_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Closed, without a reader, or not there at all: rejected for that reason, and nothing raised."""
        closed = io.StringIO()
        closed.close()
        for stream in (closed, Gone()):
            assert deliver(built(stream).spans, calls(3)) == Delivery(3, "stream_closed")
            assert deliver(built(stream).events, [event("x")]) == Delivery(1, "stream_closed")
        monkeypatch.setattr(sys, "stderr", None)
        assert deliver(built(None).spans, calls(3)) == Delivery(3, "stream_closed")

    def test_a_stream_with_nothing_but_write(self) -> None:
        """`isatty`, `flush` and `encoding` are not needed."""

        class Bare:
            text = ""

            def write(self, text: str) -> None:
                self.text += text

        stream = Bare()

        assert deliver(built(stream).spans, [call()]) == DELIVERED
        assert "churn" in stream.text

    def test_the_standard_results(self) -> None:
        """`export` answers as OpenTelemetry wants it."""
        parts, gone = built(io.StringIO()), built(Gone())
        assert isinstance(parts.spans, SpanExporter)
        assert isinstance(parts.events, LogRecordExporter)
        assert isinstance(gone.spans, SpanExporter)
        assert isinstance(gone.events, LogRecordExporter)

        assert parts.spans.export(calls(1)) is SpanExportResult.SUCCESS
        assert parts.events.export([event("x")]) is LogRecordExportResult.SUCCESS
        assert gone.spans.export(calls(1)) is SpanExportResult.FAILURE
        assert gone.events.export([event("x")]) is LogRecordExportResult.FAILURE
        assert parts.spans.force_flush()
        assert parts.events.force_flush()
        assert parts.metrics is None

    def test_it_says_where_lines_go(self, tmp_path: Path) -> None:
        """Standard error, or the name of the stream."""
        assert Console().describe() == "console (standard error)"
        assert Console(io.StringIO()).describe() == "console (StringIO)"
        with (tmp_path / "log").open("w") as file:
            assert Console(file).describe() == f"console ({file.name})"

    @pytest.mark.parametrize("stream", ["stderr", 2, print])
    def test_what_is_no_stream(self, stream: Any) -> None:
        """Something that cannot be written to is an error at once."""
        with pytest.raises(ConfigurationError, match="write"):
            Console(stream)


class TestInPrograms:
    def test_with_configure(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A line a call and a line an epoch, after a flush."""
        otel_ml.configure(service="shop", exporters=[Console()])

        @otel_ml.predict(model="churn")
        def score(rows: list[list[float]]) -> int:
            with otel_ml.current().stage("inference"):
                if not rows:
                    raise ValueError("secret text")
            return len(rows)

        score([[1.0], [2.0]])
        with pytest.raises(ValueError, match="secret"):
            score([])
        with otel_ml.train("churn") as run:
            for epoch in run.epochs(2):
                run.log(loss=0.5)
                epoch.log(val_loss=0.25)
        assert otel_ml.flush()

        lines = capsys.readouterr().err
        assert re.search(r"churn +ok +2 rows .* inference \d", lines)
        assert re.search(r"churn +error +0 rows .* ValueError ", lines)
        assert re.search(r"churn +training started +run ", lines)
        assert re.search(r"churn +epoch 1  loss 0.5  val_loss 0.25  ", lines)
        assert re.search(r"churn +training completed  ok  2 epochs  2 steps  ", lines)
        assert "secret" not in lines

    @pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
    def test_a_reader_that_leaves(self) -> None:
        """`program 2>&1 | head -1`: the program ends as it would have, with its own exit code."""
        code = (
            "import otel_ml, sys\n"
            "from otel_ml import exporters\n"
            "otel_ml.configure(service='x', exporters=[exporters.Console()])\n"
            "@otel_ml.predict(model='churn')\n"
            "def score(n): return n\n"
            "for n in range(20000): score(n)\n"
            "otel_ml.flush()\n"
            "(place,) = otel_ml.health().exporters\n"
            "print(place.signals['spans'].dropped)\n"
            "sys.exit(7)\n"
        )
        read, write = os.pipe()
        program = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=write, text=True,
        )  # fmt: skip
        os.close(write)
        os.read(read, 10)
        os.close(read)
        said, _ = program.communicate(timeout=60)

        assert program.returncode == 7
        assert "stream_closed" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"), (0.000312, "312 us"), (0.00421, "4.21 ms"), (0.0421, "42.1 ms"), (0.421, "421 ms"), (4.21, "4.21 s"),
        (42.1, "42.1 s"), (60, "1 m 00 s"), (421, "7 m 01 s"), (4210, "1 h 10 m"), (90_000, "25 h 00 m"),
    ],
)  # fmt: skip
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    """Three digits, and a unit anyone reads at a glance."""
    assert duration(seconds) == text
