"""The command `otel-ml`: the main job on real data, and a look at whether telemetry arrives."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from otel_ml._version import VERSION
from otel_ml.errors import OtelMLError

INTERRUPTED = 130
WRONG_USE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for what cannot be used, 130 after Ctrl-C.

    >>> main([])  # doctest: +ELLIPSIS
    usage: otel-ml ...
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except OtelMLError as error:
        print(f"otel-ml: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough; what Python would still write at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-ml",
        description="Watch machine-learning models: predict and train as OpenTelemetry traces, metrics and events.",
    )
    parser.add_argument("--version", action="version", version=f"otel-ml {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="train a rain model on real weather, replay three years of it, and show how good it was",
        description="Train a model of whether it rains in Seattle tomorrow on half a year of real weather, replay the "
        "years that followed with every label a day late, and show how good it was, quarter by quarter. "
        "Needs no collector and no network.",
    )
    demo.add_argument(
        "--store", metavar="PATH", help="where the local store is (OTEL_ML_STORE, else .otel_ml/telemetry.db)"
    )
    demo.add_argument(
        "--exporter",
        action="append",
        choices=("otlp", "console"),
        default=[],
        help="send it there too; may be given twice",
    )
    demo.set_defaults(command="demo")

    doctor = commands.add_parser(
        "doctor",
        help="say where telemetry goes, whether it is answered there, and which versions are installed",
        description="Say which exporters are configured, whether each answers, which versions are installed, and what "
        "to type when something is missing. The exit code is 0 when everything answers, else 1.",
    )
    doctor.add_argument(
        "--app",
        metavar="MODULE:NAME",
        help="a mapping of configure() arguments, as my_package.telemetry:settings ([tool.otel_ml] app)",
    )
    doctor.add_argument("--json", action="store_true", help="for scripts: one JSON object")
    doctor.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="seconds that an exporter has to answer (5)"
    )
    doctor.set_defaults(command="doctor")
    parser.set_defaults(parser=parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    command = cast("str | None", getattr(arguments, "command", None))
    if command == "demo":
        from otel_ml._demo import demo

        return demo(cast("str | None", arguments.store), cast("list[str]", arguments.exporter))
    if command == "doctor":
        from otel_ml._doctor import doctor

        return doctor(cast("str | None", arguments.app), cast("float", arguments.timeout), as_json=bool(arguments.json))
    cast("argparse.ArgumentParser", arguments.parser).print_help()
    return 0


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0; write for example 5")


if __name__ == "__main__":
    sys.exit(main())
