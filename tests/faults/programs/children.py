"""Record in this process and in children of every kind."""

import json
import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import otel_ml

CALLS, STEPS = 30, 10


def configure(endpoint: str) -> otel_ml.Telemetry:
    """Send to the collector."""
    return otel_ml.configure(service="children", exporters=[otel_ml.exporters.OTLP(endpoint)])


@otel_ml.predict(id="name")
def score(name: str) -> str:
    """Return what it was given."""
    return name


def record(who: str) -> str:
    """Record calls and steps under a name, and spans and a point of one's own."""
    for number in range(CALLS):
        score(f"{who}-{number}")
    with otel_ml.train(who) as run:
        for _ in range(STEPS):
            run.log(loss=0.5)
    return who


def only_train(who: str) -> None:
    """Record nothing but a training run."""
    with otel_ml.train(who) as run:
        run.log(loss=0.5)


def only_tell(who: str) -> None:
    """Tell a label, and nothing else."""
    otel_ml.feedback(who, actual=1, predicted=1, model="told")


def only_span(who: str) -> None:
    """Make a span of one's own, and nothing else."""
    from opentelemetry import trace

    trace.get_tracer("own").start_span(who).end()


def configured_and_record(endpoint: str, who: str) -> str:
    """What a child that shares nothing with its parent does."""
    configure(endpoint)
    return record(who)


def nothing(answers: "SimpleQueue[tuple[int, int]]") -> None:
    """Record nothing, and say how many threads there are, to Python and to the system."""
    tasks = Path("/proc/self/task")
    # The SDK's own fork hook detects resources in threads, which end at once; what is ours would stay.
    deadline = time.monotonic() + 5.0
    while tasks.exists() and len(list(tasks.iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    answers.put((threading.active_count(), len(list(tasks.iterdir())) if tasks.exists() else 1))


def main() -> None:
    """Do what is asked for."""
    asked = json.loads(sys.argv[1])
    how, endpoint = asked["how"], asked["endpoint"]
    context = multiprocessing.get_context(asked["start"])
    telemetry = configure(endpoint)
    said: dict[str, object] = {}
    if asked["parent"]:
        record("parent")
    if how == "process":
        target = {"all": record, "train": only_train, "tell": only_tell, "span": only_span}[asked["what"]]
        children = [
            context.Process(target=target, args=(f"child-{number}",))
            if asked["start"] == "fork"
            else context.Process(target=configured_and_record, args=(endpoint, f"child-{number}"))
            for number in range(asked["children"])
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        said["codes"] = [child.exitcode for child in children]
    elif how == "pool":
        if asked["start"] == "fork":
            pool = context.Pool(2)
        else:
            pool = context.Pool(2, initializer=configure, initargs=(endpoint,))
        pool.map(record, [f"child-{number}" for number in range(asked["children"])], chunksize=1)
        pool.close()
        pool.join()
    elif how == "exit":
        for number in range(asked["children"]):
            pid = os.fork()
            if pid == 0:
                record(f"child-{number}")
                sys.exit(0)
            os.waitpid(pid, 0)
    elif how == "nothing":
        answers = context.SimpleQueue()
        child = context.Process(target=nothing, args=(answers,))
        child.start()
        said["threads"] = answers.get()
        child.join()
    if asked["parent"]:
        record("parent-again")
    said["flushed"] = telemetry.flush()
    print(json.dumps(said))
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
