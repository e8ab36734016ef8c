"""Fork while lines of ours are being written to `sys.stderr`; every child prints there too."""

import json
import logging
import os
import sys
import threading
import time

from otel_ml import _shield

asked = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO)
ending = threading.Event()


def write() -> None:
    """Have lines written as a sender does, each for a reason of its own, or most would be left out."""
    number = 0
    while not ending.wait(0.0005):
        number += 1
        _shield.tell(str(number), "A line of otel_ml's.")


writing = threading.Thread(target=write, daemon=True)
writing.start()
codes = []
for _ in range(asked["forks"]):
    pid = os.fork()
    if pid == 0:
        print("a line of the child's", file=sys.stderr, flush=True)
        os._exit(0)
    limit = time.monotonic() + asked["hangs"]
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes.append(os.waitstatus_to_exitcode(status))
            break
        if time.monotonic() > limit:
            os.kill(pid, 9)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            break
        time.sleep(0.001)
ending.set()
writing.join(5.0)
print(json.dumps({"codes": {str(code): codes.count(code) for code in set(codes)}}))
print(time.monotonic(), flush=True)
