"""Every argument of the public interface that a value can be passed to, each as a function that passes it."""

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.trace import StatusCode

import otel_ml


def _identity(value: object) -> object:
    return value


_plain = otel_ml.predict("plain")(_identity)
_identified = otel_ml.predict("identified", id="value")(_identity)
_timed = otel_ml.predict("timed", at="value")(_identity)
_noting = otel_ml.predict("noting", output=_identity)(_identity)
_asking = otel_ml.predict("asking", id=_identity, at=_identity, output=_identity)(_identity)
_metrics_only = otel_ml.predict("metrics", spans=False, output=_identity)(_identity)


class _Model:
    @otel_ml.predict("method")
    def score(self, *values: object, **named: object) -> object:
        return values


def _call(act: Callable[[otel_ml.Call, object], object]) -> Callable[[object], None]:
    def pass_on(value: object) -> None:
        with otel_ml.predict("block") as call:
            act(call, value)

    return pass_on


def _run(act: Callable[[otel_ml.Run, object], object]) -> Callable[[object], None]:
    def pass_on(value: object) -> None:
        with otel_ml.train("run") as run:
            act(run, value)

    return pass_on


def _epoch(act: Callable[[otel_ml.Epoch, object], object]) -> Callable[[object], None]:
    def pass_on(value: object) -> None:
        with otel_ml.train("run") as run:
            for epoch in run.epochs(1):
                act(epoch, value)

    return pass_on


def _span(act: Callable[[trace.Span, object], object]) -> Callable[[object], None]:
    def pass_on(value: object) -> None:
        with otel_ml.predict("block"):
            act(trace.get_current_span(), value)

    return pass_on


def _block(entered: object) -> None:
    with entered:  # type: ignore[attr-defined]  # a context manager
        pass


def _set_id(call: otel_ml.Call, value: object) -> None:
    call.id = value  # type: ignore[assignment]  # hostile on purpose


def _set_at(call: otel_ml.Call, value: object) -> None:
    call.at = value  # type: ignore[assignment]  # hostile on purpose


def _as_key(value: object) -> dict[object, object]:
    try:
        return {value: 1}
    except Exception:
        # The user's own line would have raised.
        return {}


def _late(value: object) -> None:
    with otel_ml.predict("late") as call:
        pass
    call.outputs(value)
    assert call.id
    call.ids([value])  # type: ignore[list-item]  # hostile on purpose


# What is passed here does not match the types on purpose, hence Any in all but name.
PLACES: dict[str, Callable[[object], object]] = {
    "predict: argument": _plain,
    "predict: keyword": lambda value: _plain(value=value),
    "predict: method": lambda value: _Model().score(value, value, more=value),
    "predict: id": _identified,
    "predict: at": _timed,
    "predict: output": _noting,
    "predict: functions": _asking,
    "predict: spans=False": _metrics_only,
    "call.inputs": _call(lambda call, value: call.inputs(value)),
    "call.outputs": _call(lambda call, value: call.outputs(value)),
    "call.set": _call(lambda call, value: call.set(k=value)),  # type: ignore[arg-type]  # hostile on purpose
    "call.label": _call(lambda call, value: call.label(k=value)),  # type: ignore[arg-type]  # hostile on purpose
    "call.id": _call(_set_id),
    "call.at": _call(_set_at),
    "call.ids": _call(lambda call, value: call.ids([value, 1])),  # type: ignore[list-item]  # hostile on purpose
    "call.stage": _call(lambda call, value: _block(call.stage(value))),  # type: ignore[arg-type]  # hostile on purpose
    "call, after its end": _late,
    "train: params": lambda value: _block(otel_ml.train("run", params={"p": value})),
    "run.log": _run(lambda run, value: run.log(loss=value, other=value)),  # type: ignore[arg-type]  # hostile on purpose
    "run.log: mapping": _run(lambda run, value: run.log(value)),  # type: ignore[arg-type]  # hostile on purpose
    "run.log: key": _run(lambda run, value: run.log(_as_key(value))),  # type: ignore[arg-type]  # hostile on purpose
    "run.log: step": _run(lambda run, value: run.log(step=value, loss=1.0)),  # type: ignore[arg-type]  # hostile on purpose
    "run.set": _run(lambda run, value: run.set(k=value)),  # type: ignore[arg-type]  # hostile on purpose
    "run.evaluate": _run(lambda run, value: _block(run.evaluate(value))),  # type: ignore[arg-type]  # hostile on purpose
    "run.epochs: item": _run(lambda run, value: list(run.epochs([value]))),
    "run.epochs: start": _run(lambda run, value: list(run.epochs(1, start=value))),  # type: ignore[arg-type]  # hostile on purpose
    "run.batches: batch": _run(lambda run, value: list(run.batches([value, (value, 1), {"x": value}]))),
    "epoch.log": _epoch(lambda epoch, value: epoch.log(val_loss=value, other=value)),  # type: ignore[arg-type]  # hostile on purpose
    "epoch.log: mapping": _epoch(lambda epoch, value: epoch.log(value)),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: id": lambda value: otel_ml.feedback([value], actual=1),  # type: ignore[list-item]  # hostile on purpose
    "feedback: actual": lambda value: otel_ml.feedback("i", value, predicted=1),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: predicted": lambda value: otel_ml.feedback("i", 1, predicted=value),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: score": lambda value: otel_ml.feedback("i", 1, score=value),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: model": lambda value: otel_ml.feedback("i", 1, model=value),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: version": lambda value: otel_ml.feedback("i", 1, version=value),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: at": lambda value: otel_ml.feedback("i", 1, at=value),  # type: ignore[arg-type]  # hostile on purpose
    "feedback: batch": lambda value: otel_ml.feedback(["i", "j"], [value, 1]),  # type: ignore[list-item]  # hostile on purpose
    "flush": lambda value: otel_ml.flush(value),  # type: ignore[arg-type]  # hostile on purpose
    "span.set_attribute": _span(lambda span, value: span.set_attribute("k", value)),  # type: ignore[arg-type]  # hostile on purpose
    "span.set_attribute: key": _span(lambda span, value: span.set_attribute(value, 1)),  # type: ignore[arg-type]  # hostile on purpose
    "span.set_attributes": _span(lambda span, value: span.set_attributes({"k": value})),  # type: ignore[dict-item]  # hostile on purpose
    "span.add_event": _span(lambda span, value: span.add_event("e", {"k": value})),  # type: ignore[dict-item]  # hostile on purpose
    "span.add_event: name": _span(lambda span, value: span.add_event(value)),  # type: ignore[arg-type]  # hostile on purpose
    "span.update_name": _span(lambda span, value: span.update_name(value)),  # type: ignore[arg-type]  # hostile on purpose
    "span.set_status": _span(lambda span, value: span.set_status(StatusCode.ERROR, value)),  # type: ignore[arg-type]  # hostile on purpose
    "span.record_exception": _span(lambda span, value: span.record_exception(value)),  # type: ignore[arg-type]  # hostile on purpose
}
