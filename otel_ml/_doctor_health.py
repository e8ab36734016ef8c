"""What became of the telemetry of programs that run here or did so lately, from the files they wrote beside their stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import time

from otel_ml._health import Account, ExporterHealth
from otel_ml._health_file import Report
from otel_ml._reasons import explained

# Configurations that are shown to a person, those of living processes first.
MOST = 10


def as_programs(reports: Sequence[Report]) -> list[dict[str, object]]:
    """Return reports as data, with what to do about each reason for a loss."""
    return [
        {
            "service": one.service,
            "pid": one.pid,
            "alive": one.alive,
            "started": one.started,
            "written": one.written,
            "ended": one.ended,
            "exporters": [
                {
                    "name": to.name,
                    "where": to.where,
                    "signals": {signal: _numbers(account) for signal, account in to.signals.items()},
                }
                for to in one.health.exporters
            ],
            "refused": one.health.refused,
            "unread": one.health.unread,
            "failures": one.health.failures,
            "advice": {reason: explained(reason) for to in one.health.exporters for reason in _reasons(to)},
        }
        for one in reports
    ]


def as_lines(reports: Sequence[Report], indent: str) -> Iterator[str]:
    """Give the lines that show reports to a person."""
    first = sorted(reports, key=lambda one: (not one.alive, -one.written))
    for one in first[:MOST]:
        yield ""
        yield f"{one.service or 'a program'}  pid {one.pid}, {_standing(one)}"
        for to in one.health.exporters:
            yield f"{indent}{to.where}"
            yield from (f"{indent}{line}" for line in _table(to))
            yield from (f"{indent}{reason}: {explained(reason)}" for reason in _reasons(to))
        if one.health.refused:
            yield f"{indent}{one.health.refused:,} values were not taken by the OpenTelemetry SDK of the program."
        if one.health.unread:
            yield f"{indent}{one.health.unread:,} tensors came faster than they were read: log a share of them."
        for task, times in one.health.failures.items():
            yield f"{indent}{times:,} times otel_ml could not {task}: please report it."
    if first[MOST:]:
        yield f"\n... and {len(first) - MOST} more: otel-ml doctor --json"


def _standing(one: Report) -> str:
    state = "running" if one.alive and not one.ended else "telemetry shut down" if one.alive else "ended"
    return f"{state} (as of {_ago(time() - one.written)})"


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _table(to: ExporterHealth) -> Iterator[str]:
    rows = [(signal, *_words(account)) for signal, account in to.signals.items() if account.created]
    if not rows:
        yield "nothing was recorded for it"
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _words(account: Account) -> tuple[str, ...]:
    lost = ", ".join(f"{reason} {count:,}" for reason, count in account.dropped.items() if count)
    return (
        f"created {account.created:,}",
        f"delivered {account.delivered:,}",
        f"queued {account.queued:,}",
        f"spooled {account.spooled:,}",
        f"dropped {sum(account.dropped.values()):,}{f' ({lost})' if lost else ''}",
    )


def _numbers(account: Account) -> dict[str, object]:
    return {
        "created": account.created,
        "delivered": account.delivered,
        "queued": account.queued,
        "spooled": account.spooled,
        "dropped": account.dropped,
    }


def _reasons(to: ExporterHealth) -> list[str]:
    found = (reason for account in to.signals.values() for reason, count in account.dropped.items() if count)
    return list(dict.fromkeys(found))
