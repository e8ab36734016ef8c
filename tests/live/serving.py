"""A WSGI application whose handler is decorated, for gunicorn to preload."""

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import parse_qs

import otel_ml

# In the master: the workers are forked from here.
telemetry = otel_ml.configure(service="serving", exporters=[otel_ml.exporters.OTLP(os.environ["COLLECTOR"])])


@otel_ml.predict(model="churn", id="name", output=lambda score: score)
def predict(name: str) -> float:
    """Return a score."""
    return len(name) / 100


def application(
    environ: dict[str, str], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Answer with the score of who is asked for, or with what this process is made of."""
    query = parse_qs(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/threads":
        tasks = Path("/proc/self/task")
        count = len(list(tasks.iterdir())) if tasks.exists() else 0
        body: object = {"pid": os.getpid(), "python": threading.active_count(), "system": count}
    else:
        body = {"pid": os.getpid(), "score": predict(query["name"][0])}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
