"""`exporters.Local`: everything in one SQLite file on this machine, which `otel-ml` reads back."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Parts

# Set where a program runs for nobody who could look at a file: AWS Lambda, Kubernetes.
UNATTENDED = ("AWS_LAMBDA_FUNCTION_NAME", "KUBERNETES_SERVICE_HOST")


@dataclass(frozen=True, slots=True)
class Local:
    """Spans, metrics and events in one SQLite file: no collector, no network, nothing to install.

    The file is `path`, else `OTEL_ML_STORE`, else `.otel_ml/telemetry.db` where the program runs (a folder that git
    ignores). With its log it stays within `max_bytes` bytes, and what is older than `max_age` seconds is deleted: the
    oldest first, from whatever there is most of. Any number of processes may write to the same file, and it can be
    read at any time; NaN and infinities are kept. Only its owner can read it.

    Nothing is opened before the first record. A file that is not a store of ours, or one written by a newer version,
    is left as it is: one line says so, the program goes on, and the loss is in `health()`; so it is when the disk is
    full, until there is room again.

    Raises `ConfigurationError` for an argument that cannot be used.

    >>> Local("runs.db", max_bytes=50_000_000).describe()
    'local store runs.db'
    """

    path: str | os.PathLike[str] | None = None
    _: KW_ONLY
    max_bytes: int = 256_000_000
    max_age: float = 7 * 86400.0

    def __post_init__(self) -> None:
        _check_path(self.path)
        _check_bytes(self.max_bytes)
        _check_age(self.max_age)

    def build(self, resource: Resource) -> Parts:  # records bring their resource along
        """Make the three exporters; nothing is opened before the first batch."""
        from otel_ml._delivery import Parts
        from otel_ml._health_file import beside
        from otel_ml._store import Store
        from otel_ml.exporters._local_parts import LocalEvents, LocalMetrics, LocalSpans

        store = Store(self._file(), max_bytes=self.max_bytes, max_age=self.max_age)
        return Parts(
            spans=LocalSpans(store),
            metrics=LocalMetrics(store),
            events=LocalEvents(store),
            interval=5.0,
            delay=0.2,
            health=beside(store.path),
        )

    def describe(self) -> str:
        """Return where telemetry goes: `local store .otel_ml/telemetry.db`."""
        file = self._file()
        if file.is_absolute() and file.is_relative_to(Path.cwd()):
            file = file.relative_to(Path.cwd())
        return f"local store {file}"

    def _file(self) -> Path:
        from otel_ml._store_schema import default_path

        return default_path() if self.path is None else Path(self.path)


def serves_a_person() -> bool:
    """Say whether a local store would be of use as the silent default.

    Not in AWS Lambda or Kubernetes, where nobody would look at the file, nor where it cannot be written.
    """
    if any(os.environ.get(name) for name in UNATTENDED):
        return False
    from otel_ml._store_schema import default_path

    path = default_path().absolute()
    if path.exists():
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    folder = next(one for one in path.parents if one.exists())
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _check_path(path: object) -> None:
    if path is not None and not (isinstance(path, str | os.PathLike) and str(os.fspath(path))):  # pyright: ignore[reportUnknownArgumentType]  # any path
        raise ConfigurationError("path is not the name of a file. Write exporters.Local('telemetry.db').")


def _check_bytes(max_bytes: object) -> None:
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1_000_000:
        raise ConfigurationError(
            f"max_bytes={max_bytes!r} is not a number of bytes of at least 1,000,000. Write max_bytes=256_000_000."
        )


def _check_age(max_age: object) -> None:
    if isinstance(max_age, bool) or not isinstance(max_age, int | float) or not max_age > 0:
        raise ConfigurationError(
            f"max_age={max_age!r} is not a number of seconds above 0. Write max_age=7 * 86400.0 for a week."
        )
