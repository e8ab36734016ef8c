"""Why records are dropped: for each reason one sentence with the cause, and what to do about it."""

_SLOW = "The place could not be reached in time: check endpoint and firewall, or allow more with `timeout=`."
_CREDENTIALS = "The collector wants other credentials: check `headers=`, or `OTEL_EXPORTER_OTLP_HEADERS`."
_ABSENT = "There is no OTLP receiver for this signal: check the endpoint's path, and that the collector has a pipeline for it."
_BUSY = "The collector took no more: give it more room, or send less with `sampling=`."
_MALFORMED = "The collector did not understand the request: look at its log, and bring it up to date."
_FAILS = "The collector failed: look at its log."

# Where a name ends in `*` or `xx`, it is that of a family.
REASONS = {
    "queue_full": "More was recorded than was sent, and memory is bounded: see whether the place answers, or send less with `sampling=`.",
    "shutdown": "The program ended before this was sent: see whether the place answers, or give it longer with `shutdown(timeout=5)`.",
    "superseded": "Points were not sent before later ones took their place: see whether the place answers.",
    "encoding": "A record could not be encoded: look for values that are no text, number or boolean, or for broken text in names.",
    "unreadable_record": "A record could not be read as what it claims to be: look at the instrument or processor that made it.",
    "partial_success": "The collector accepted the request without these records: its log says why.",
    "rejected": "The exporter did not say why: look at the log of the place it sends to.",
    "too_large": "One record was larger than the collector allows: raise its limit, or record less in one.",
    "timeout": _SLOW,
    "refused": "Nobody listened at the endpoint: start a collector there, or change `OTEL_EXPORTER_OTLP_ENDPOINT` or the argument of `OTLP`.",
    "reset": "The connection was closed: if the collector expects TLS, write `https://`; if that is its gRPC port, `protocol=\"grpc\"`.",
    "network": "The network failed: check endpoint, route and firewall.",
    "unknown_host": "There is no such host: check its name in the endpoint.",
    "untrusted": "The collector's certificate is not trusted: name its authority's PEM file with `certificate=`.",
    "not_http": "The collector does not speak HTTP: if that is its gRPC port, write `protocol=\"grpc\"`.",
    "forbidden_address": "No telemetry is sent to this address: name a collector of yours as the endpoint.",
    "http_3xx": "The collector redirects, which is not followed: name the place it redirects to as the endpoint.",
    "http_400": _MALFORMED,
    "http_401": _CREDENTIALS,
    "http_403": _CREDENTIALS,
    "http_404": _ABSENT,
    "http_405": _ABSENT,
    "http_429": _BUSY,
    "http_4xx": "The collector refused the request: check that the endpoint is an OTLP receiver, and look at its log.",
    "http_503": _BUSY,
    "http_5xx": _FAILS,
    "grpc_UNAUTHENTICATED": _CREDENTIALS,
    "grpc_PERMISSION_DENIED": _CREDENTIALS,
    "grpc_UNIMPLEMENTED": _ABSENT,
    "grpc_INVALID_ARGUMENT": _MALFORMED,
    "grpc_RESOURCE_EXHAUSTED": _BUSY,
    "grpc_UNAVAILABLE": "Nobody answered gRPC: start a collector, or if that is its HTTP port, write `protocol=\"http/protobuf\"`.",
    "grpc_DEADLINE_EXCEEDED": _SLOW,
    "grpc_*": "The collector refused the call with this gRPC status: look at its log.",
    "disk_full": "The disk of the local store is full: make room, or give the store another place with `OTEL_ML_STORE`.",
    "store_unusable": "The local store cannot be written: `otel-ml doctor` says why, and `OTEL_ML_STORE` gives it another place.",
    "stream_closed": "Whoever read the console's stream is gone: keep the reader running, or pass `stream=`.",
    "spool_full": "The spool was full, and what was oldest made room: see whether the place answers, or allow more with `Spool(max_bytes=...)`.",
    "spool_corrupt": "A file of the spool was damaged: check the disk it lies on.",
    "exporter_failed": "The exporter reported a failure and no reason: look at its own log.",
    "exporter_raised_*": "The exporter raised an exception of this class, which is a defect in it: bring it up to date, or report it to its makers.",
}  # fmt: skip
UNKNOWN = "This version does not know the reason: bring `otel-ml` up to date, and look at the log of the place."

_PREFIXES = ("grpc_", "exporter_raised_")


def explained(reason: str) -> str:
    """Return the cause of a loss, and the cure.

    >>> explained("http_302").startswith("The collector redirects")
    True
    """
    families = (reason, f"{reason[:6]}xx", *(f"{name}*" for name in _PREFIXES if reason.startswith(name)))
    return next((REASONS[one] for one in families if one in REASONS), UNKNOWN)
