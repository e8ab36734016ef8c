"""What `exporters.OTLP` is told: arguments, OpenTelemetry's environment variables, and which of them counts."""

import copy
import pickle
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

from otel_ml import _otel_private
from otel_ml.errors import ConfigurationError, OtelMLError
from otel_ml.exporters import OTLP
from otel_ml.exporters._otlp_settings import target_of
from otel_ml.exporters._wire import Signal, Target
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_spans

PREFIX = "OTEL_EXPORTER_OTLP_"


def url(target: Target) -> str:
    """Return the address that a signal is sent to."""
    return f"{target.endpoint.shown}{target.endpoint.path}"


def read(exporter: OTLP, signal: Signal = "traces", **variables: str) -> Target:
    """Return where a signal goes with these `OTEL_EXPORTER_OTLP_*` variables set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(PREFIX + name, value)
        return target_of(exporter, signal)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("given", "variables", "expected"),
        [
            (None, {}, "http://localhost:4318/v1/traces"),
            (None, {"PROTOCOL": "http/protobuf"}, "http://localhost:4318/v1/traces"),
            (None, {"PROTOCOL": "grpc"}, "http://localhost:4317/v1/traces"),
            (None, {"ENDPOINT": "http://c:1"}, "http://c:1/v1/traces"),
            (None, {"ENDPOINT": "http://c:1/"}, "http://c:1/v1/traces"),
            (None, {"ENDPOINT": "https://c/otlp/"}, "https://c:443/otlp/v1/traces"),
            (None, {"ENDPOINT": "http://c:1/otlp?a=b"}, "http://c:1/otlp/v1/traces?a=b"),
            (None, {"ENDPOINT": ""}, "http://localhost:4318/v1/traces"),
            (None, {"TRACES_ENDPOINT": "http://t:2/x"}, "http://t:2/x"),
            (None, {"TRACES_ENDPOINT": "http://t:2"}, "http://t:2/"),
            (None, {"TRACES_ENDPOINT": "http://t:2/x", "ENDPOINT": "http://c:1"}, "http://t:2/x"),
            (None, {"METRICS_ENDPOINT": "http://t:2/x", "ENDPOINT": "http://c:1"}, "http://c:1/v1/traces"),
            ("http://a:3", {"TRACES_ENDPOINT": "http://t:2", "ENDPOINT": "http://c:1"}, "http://a:3/v1/traces"),
            ("http://[::1]:3", {}, "http://[::1]:3/v1/traces"),
            ("HTTP://A:3", {}, "http://a:3/v1/traces"),
        ],
    )
    def test_endpoint(self, given: str | None, variables: dict[str, str], expected: str) -> None:
        """Argument, then the signal's variable as it is, then the general one with the signal's path, then localhost."""
        assert url(read(OTLP(given), **variables)) == expected

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"ENDPOINT": "c:4317"}, "https://c:4317"),
            ({"ENDPOINT": "c:4317", "INSECURE": "true"}, "http://c:4317"),
            ({"ENDPOINT": "c:4317", "INSECURE": "true", "TRACES_INSECURE": "false"}, "https://c:4317"),
            ({"ENDPOINT": "http://c:4317", "INSECURE": "false"}, "http://c:4317"),
            ({"TRACES_ENDPOINT": "c:1", "TRACES_INSECURE": "True"}, "http://c:1"),
        ],
    )
    def test_grpc_may_have_an_endpoint_without_scheme(self, variables: dict[str, str], expected: str) -> None:
        """For gRPC alone the variable may lack a scheme; `INSECURE` chooses it then, and only then."""
        assert read(OTLP(protocol="grpc"), **variables).endpoint.shown == expected

    @pytest.mark.parametrize(
        ("setting", "attribute", "given", "general", "own", "default"),
        [
            ("PROTOCOL", "protocol", "grpc", "http/protobuf", "grpc", "http/protobuf"),
            ("COMPRESSION", "gzip", "gzip", "none", "gzip", False),
            ("TIMEOUT", "timeout", 3.0, "4", "5.5", 10.0),
            ("CERTIFICATE", "certificate", "a.pem", "b.pem", "c.pem", None),
            ("CLIENT_KEY", "client_key", "a.pem", "b.pem", "c.pem", None),
            ("CLIENT_CERTIFICATE", "client_certificate", "a.pem", "b.pem", "c.pem", None),
        ],
    )
    @pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
    def test_order(
        self, setting: str, attribute: str, given: object, general: str, own: str, default: object, signal: Signal
    ) -> None:
        """Every setting: argument, then the signal's own variable, then the general one, then the default."""

        def value(exporter: OTLP, **variables: str) -> object:
            found = getattr(read(exporter, signal, **variables), attribute)
            return {True: "gzip", False: "none"}[found] if attribute == "gzip" else found

        argument = {attribute if attribute != "gzip" else "compression": given}
        if attribute == "client_key":
            argument["client_certificate"] = "x.pem"
        mine = f"{signal.upper()}_{setting}"
        other = f"{'METRICS' if signal != 'metrics' else 'LOGS'}_{setting}"
        same = (lambda text: float(text)) if setting == "TIMEOUT" else str

        assert value(OTLP()) == ("none" if attribute == "gzip" else default)
        assert value(OTLP(), **{setting: general}) == same(general)
        assert value(OTLP(), **{setting: general, mine: own}) == same(own)
        assert value(OTLP(), **{setting: general, other: own}) == same(general)
        assert value(OTLP(**argument), **{setting: general, mine: own}) == given  # type: ignore[arg-type]  # one of several

    def test_headers(self) -> None:
        """Headers: argument, then the signal's variable, then the general one; percent-decoded, names in lower case."""
        general = {"HEADERS": "api-key=a%20b, X-Tenant = t=1 ,,"}

        assert dict(read(OTLP(), **general).headers) == {"api-key": "a b", "x-tenant": "t=1"}
        assert dict(read(OTLP(), **general, TRACES_HEADERS="k=v").headers) == {"k": "v"}
        assert dict(read(OTLP(), **general, LOGS_HEADERS="k=v").headers) == {"api-key": "a b", "x-tenant": "t=1"}
        assert dict(read(OTLP(headers={"Z": "1"}), **general, TRACES_HEADERS="k=v").headers) == {"z": "1"}
        assert read(OTLP(headers={}), **general).headers == ()

    @pytest.mark.parametrize("value", ["ten", "0", "-1", "nan", "inf"])
    def test_a_number_that_is_none_is_ignored(self, value: str, caplog: pytest.LogCaptureFixture) -> None:
        """A time-out that cannot be understood is warned of and left out, as OpenTelemetry's specification has it."""
        assert read(OTLP(), TIMEOUT=value).timeout == 10.0
        (message,) = caplog.messages
        assert message.startswith("otel_ml does not understand OTEL_EXPORTER_OTLP_TIMEOUT and leaves it out. ")
        assert message.endswith("Write OTEL_EXPORTER_OTLP_TIMEOUT as a number of seconds.")

    def test_an_unknown_compression_is_ignored(self, caplog: pytest.LogCaptureFixture) -> None:
        """So is a compression that is neither gzip nor none."""
        assert read(OTLP(), COMPRESSION="zip").gzip is False
        assert "Write OTEL_EXPORTER_OTLP_COMPRESSION as gzip or none." in caplog.text

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"ENDPOINT": "c:4318"}, "'c:4318' has no scheme. Write OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318."),
            (
                {"TRACES_ENDPOINT": "ftp://c"},
                "is neither http nor https. Write OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http",
            ),
            ({"PROTOCOL": "http/json"}, "is not a protocol that OTLP can use here. Write OTEL_EXPORTER_OTLP_PROTOCOL="),
            (
                {"HEADERS": "CANARY"},
                "has an entry without '='. Write OTEL_EXPORTER_OTLP_HEADERS=name=value,name=value.",
            ),
            ({"HEADERS": "k=a%0ACANARY"}, "in OTEL_EXPORTER_OTLP_HEADERS has a line break"),
            ({"HEADERS": "k ey=CANARY"}, "have a name that HTTP does not allow"),
            ({"HEADERS": "host=CANARY"}, "set 'host', which OTLP sets by itself. Leave it out."),
        ],
    )
    def test_a_variable_that_cannot_be_used_is_refused(self, variables: dict[str, str], message: str) -> None:
        """What would send nothing, or to nobody, is refused by `build`; the message holds no value of a header."""
        with pytest.raises(ConfigurationError) as caught:
            read(OTLP(), **variables)
        assert message in str(caught.value)
        assert "CANARY" not in str(caught.value)

    def test_intervals(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """OpenTelemetry's intervals are in milliseconds; without them it is a minute, and a second."""
        parts = OTLP().build(RESOURCE)
        assert (parts.interval, parts.delay) == (60.0, 1.0)

        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1500")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "250")
        parts = OTLP().build(RESOURCE)
        assert (parts.interval, parts.delay) == (1.5, 0.25)

        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "often")
        assert OTLP().build(RESOURCE).interval == 60.0
        assert "Write OTEL_METRIC_EXPORT_INTERVAL as a number of milliseconds." in caplog.text


class TestMetrics:
    DELTA = AggregationTemporality.DELTA
    EVERY = (Counter, UpDownCounter, Histogram, ObservableCounter, ObservableUpDownCounter, ObservableGauge)

    @pytest.mark.parametrize(
        ("value", "delta"),
        [
            (None, ()),
            ("cumulative", ()),
            ("Delta", (Counter, Histogram, ObservableCounter)),
            ("LOWMEMORY", (Counter, Histogram)),
            ("sometimes", ()),
        ],
    )
    def test_temporality(
        self,
        value: str | None,
        delta: tuple[type, ...],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The temporality preference means what OpenTelemetry's specification says, for every instrument."""
        if value is not None:
            monkeypatch.setenv(PREFIX + "METRICS_TEMPORALITY_PREFERENCE", value)
        exporter = OTLP().build(RESOURCE).metrics
        assert exporter is not None
        preferred = _otel_private.preferred_temporality(exporter)
        assert set(preferred) == set(self.EVERY)
        assert {kind for kind, temporality in preferred.items() if temporality is self.DELTA} == set(delta)
        assert (value == "sometimes") == ("TEMPORALITY_PREFERENCE as cumulative or delta or lowmemory." in caplog.text)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("", HistogramData),
            ("explicit_bucket_histogram", HistogramData),
            ("base2_exponential_bucket_histogram", ExponentialHistogram),
            ("none", HistogramData),
        ],
    )
    def test_histograms(self, value: str, expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
        """The default histogram aggregation is what a reader then collects."""
        monkeypatch.setenv(PREFIX + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION", value)
        with FaultCollector() as collector:
            exporter = OTLP(collector.endpoint).build(RESOURCE).metrics
            assert exporter is not None
            provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
            provider.get_meter("tests").create_histogram("sizes").record(3)
            provider.shutdown()
            (metric,) = collector.metrics
            assert metric.HasField("exponential_histogram") == (expected is ExponentialHistogram)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"endpoint": "localhost:4318"},
                "The endpoint 'localhost:4318' has no scheme. Write exporters.OTLP(\"http://localhost:4318\").",
            ),
            ({"endpoint": ""}, 'has no scheme. Write exporters.OTLP("http://localhost:4318").'),
            ({"endpoint": "unix:///tmp/s"}, "is neither http nor https."),
            ({"endpoint": "http://"}, "names no host."),
            ({"endpoint": "http://:4318"}, "names no host."),
            ({"endpoint": "http://a:port"}, "is not a URL."),
            ({"endpoint": "http://a:99999"}, "is not a URL."),
            ({"endpoint": "http://[::1"}, "is not a URL."),
            ({"endpoint": "http://a b"}, "has a character that a URL cannot have."),
            ({"endpoint": "http://a\nb"}, "has a character that a URL cannot have."),
            ({"endpoint": "http://a/é"}, "has a character that a URL cannot have."),
            (
                {"endpoint": "http://a:1/v1/traces"},
                'is added for each signal. Write exporters.OTLP("http://a:1"), or set',
            ),
            ({"endpoint": "http://a:1/v1/logs/"}, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"),
            ({"endpoint": 4318}, 'endpoint is not text. Write exporters.OTLP("http://localhost:4318").'),
            ({"protocol": "http"}, "protocol='http' is not one that OTLP can use. Write protocol=\"http/protobuf\" or"),
            ({"compression": "zstd"}, 'Write compression="none" or compression="gzip".'),
            ({"timeout": 0}, "timeout is not a positive number of seconds. Write timeout=10.0."),
            ({"timeout": float("nan")}, "timeout is not a positive number of seconds."),
            ({"timeout": float("inf")}, "timeout is not a positive number of seconds."),
            ({"timeout": "10"}, "timeout is not a positive number of seconds."),
            ({"timeout": True}, "timeout is not a positive number of seconds."),
            ({"headers": "a=b"}, "headers is not a mapping. Write headers={'name': 'value'}."),
            ({"headers": {"a": b"CANARY"}}, "are not all text."),
            ({"headers": {"a b": "CANARY"}}, "have a name that HTTP does not allow."),
            ({"headers": {"": "CANARY"}}, "have a name that HTTP does not allow."),
            ({"headers": {"a": "x\r\nb: CANARY"}}, "has a line break or another character that cannot be sent."),
            ({"headers": {"a": "CANARY\x00"}}, "has a line break or another character that cannot be sent."),
            ({"headers": {"a": "CANARYé"}}, "has a line break or another character that cannot be sent."),
            ({"headers": {"Content-Length": "CANARY"}}, "set 'content-length', which OTLP sets by itself."),
            ({"client_key": "key.pem"}, "client_key is given without client_certificate."),
            ({"insecure": "yes"}, "insecure must be True or False, not str. Write insecure=True."),
            ({"insecure": 1}, "insecure must be True or False, not int. Write insecure=True."),
            ({"certificate": 5}, 'certificate is no path but int. Write certificate="/etc/ssl/certificate.pem".'),
            ({"client_certificate": b"x", "client_key": "k"}, "client_certificate is no path but bytes."),
            ({"client_certificate": "c", "client_key": False}, "client_key is no path but bool."),
            ({"endpoint": "bob:CANARY@host:4318?token=CANARY"}, "The endpoint 'host:4318' has no scheme."),
            ({"endpoint": "ftp://bob:CANARY@host/CANARY?token=CANARY"}, "The endpoint 'ftp://host' is neither"),
        ],
    )
    def test_a_wrong_argument_is_refused(self, arguments: dict[str, object], message: str) -> None:
        """Each wrong argument raises when it is written, in two sentences that hold no secret."""
        with pytest.raises(ConfigurationError) as caught:
            OTLP(**arguments)  # type: ignore[arg-type]  # wrong on purpose
        assert message in str(caught.value)
        assert "CANARY" not in str(caught.value)
        assert str(caught.value).count(". ") >= 1
        assert isinstance(caught.value, OtelMLError)

    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254", "169.254.170.2", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]", "[fd00:0ec2:0:0:0:0:0:254]",
        ],
    )  # fmt: skip
    def test_addresses_that_serve_credentials_are_refused(self, host: str) -> None:
        """The addresses at which a cloud hands out a machine's credentials are no collectors, however they are spelled."""
        with pytest.raises(ConfigurationError, match="serves this machine's credentials"):
            OTLP(f"http://{host}/")
        with pytest.raises(ConfigurationError, match="serves this machine's credentials"):
            read(OTLP(), ENDPOINT=f"http://{host}/")

    def test_a_file_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        """A missing or broken PEM file is found by `build`, for either protocol; a missing one at http, too."""
        broken = tmp_path / "broken.pem"
        broken.write_text("not a certificate")
        for arguments in (
            {"certificate": tmp_path / "none.pem"},
            {"certificate": broken},
            {"client_certificate": broken},
        ):
            with pytest.raises(ConfigurationError, match="PEM file"):
                OTLP("https://localhost:4318", **arguments).build(RESOURCE)
        for name in ("certificate", "client_certificate"):
            missing = OTLP("http://localhost:4318", **{name: tmp_path / "none.pem"})  # type: ignore[arg-type]  # a path
            with pytest.raises(ConfigurationError, match=f"none.pem' of {name}= is not there. Check path and permissi"):
                missing.build(RESOURCE)
        with pytest.raises(ConfigurationError, match="PEM file"):
            OTLP("https://localhost:4317", protocol="grpc", certificate=tmp_path / "none.pem").build(RESOURCE)

    def test_it_is_a_value(self) -> None:
        """Equal arguments make equal exporters, which can be hashed, copied and sent to another process."""
        exporter = OTLP("http://a:1", headers={"K": " v "}, timeout=3)
        assert exporter == OTLP("http://a:1", headers={"k": "v"}, timeout=3)
        assert len({exporter, OTLP("http://a:1", headers={"k": "v"}, timeout=3), OTLP()}) == 2
        assert copy.deepcopy(exporter) == pickle.loads(pickle.dumps(exporter)) == exporter

    def test_headers_are_copied(self) -> None:
        """What the caller does with the mapping later changes nothing."""
        headers = {"k": "v"}
        exporter = OTLP(headers=headers)
        headers["k"] = "line\nbreak"
        assert exporter.headers == {"k": "v"}


class TestDescription:
    @pytest.mark.parametrize(
        ("exporter", "variables", "expected"),
        [
            (OTLP(), {}, "OTLP http://localhost:4318 (http/protobuf)"),
            (OTLP("http://localhost:4318"), {}, "OTLP http://localhost:4318 (http/protobuf)"),
            (OTLP("https://c"), {}, "OTLP https://c:443 (http/protobuf)"),
            (OTLP(protocol="grpc"), {}, "OTLP http://localhost:4317 (grpc)"),
            (OTLP("https://bob:CANARY@c:1/CANARY?k=CANARY"), {}, "OTLP https://c:1 (http/protobuf)"),
            (OTLP(), {"ENDPOINT": "http://c:1"}, "OTLP http://c:1 (http/protobuf)"),
            (
                OTLP(),
                {"METRICS_ENDPOINT": "http://m:1", "METRICS_PROTOCOL": "grpc"},
                "OTLP http://localhost:4318 (http/protobuf), http://m:1 (grpc)",
            ),
            (OTLP(), {"ENDPOINT": "bob:CANARY@c"}, "OTLP an endpoint that cannot be used (http/protobuf)"),
        ],
    )
    def test_describe(
        self, exporter: OTLP, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says where telemetry goes and how, without path, query or userinfo."""
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)
        assert exporter.describe() == expected

    def test_repr_hides_secrets(self) -> None:
        """A repr shows what was given, but of headers only the names and of the address only host and port."""
        exporter = OTLP(
            "https://bob:CANARY@c:1/CANARY?k=CANARY", headers={"api-key": "CANARY"}, timeout=3.0, insecure=True
        )
        assert repr(exporter) == "OTLP('https://c:1', headers={'api-key': ...}, timeout=3.0, insecure=True)"
        assert repr(OTLP()) == "OTLP()"
        assert "CANARY" not in repr(read(exporter))


class TestPlainHttp:
    @pytest.mark.parametrize("host", ["collector", "10.1.2.3", "192.168.0.9", "[fe80::1]", "localhost.example.com"])
    @pytest.mark.parametrize("name", ["authorization", "api-key", "x-honeycomb-team", "dd-api-key", "cookie", "x-auth"])
    def test_credentials_are_not_sent_in_the_open(self, host: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
        """Over plain http to another machine such a header is left out, and one line says what to type."""
        exporter = OTLP(f"http://{host}:4318", headers={name: "CANARY", "x-scope-orgid": "a"})
        assert dict(read(exporter).headers) == {"x-scope-orgid": "a"}
        assert f"does not send the header '{name}' unencrypted to http://{host}:4318. Use https, or" in caplog.text
        assert "CANARY" not in caplog.text

    @pytest.mark.parametrize(
        ("endpoint", "insecure", "variables"),
        [
            ("https://collector:4318", False, {}),
            ("http://localhost:4318", False, {}),
            ("http://app.localhost:4318", False, {}),
            ("http://127.9.9.9:4318", False, {}),
            ("http://127.1:4318", False, {}),
            ("http://[::1]:4318", False, {}),
            ("http://collector:4318", True, {}),
            ("http://collector:4318", False, {"INSECURE": "true"}),
        ],
    )
    def test_credentials_are_sent_where_they_are_safe(
        self, endpoint: str, insecure: bool, variables: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Encrypted, on this machine, or where somebody has said so, they are sent."""
        target = read(OTLP(endpoint, headers={"authorization": "Bearer x"}, insecure=insecure), **variables)
        assert dict(target.headers) == {"authorization": "Bearer x"}
        assert caplog.messages == []

    def test_a_value_that_looks_like_a_credential_counts(self) -> None:
        """So does a header whose name says nothing but whose value is a bearer token; and a password in the address."""
        assert read(OTLP("http://c:1", headers={"x-thing": "Bearer abc"})).headers == ()
        assert read(OTLP("http://bob:pass@c:1")).headers == ()
        assert dict(read(OTLP("http://bob:pass@c:1", insecure=True)).headers) == {"authorization": "Basic Ym9iOnBhc3M="}


def test_build_reads_the_environment_of_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value made before the variables were set follows them when it is built."""
    exporter = OTLP()
    with FaultCollector() as collector:
        monkeypatch.setenv(PREFIX + "ENDPOINT", collector.endpoint)
        spans = exporter.build(RESOURCE).spans
        assert spans is not None
        spans.export(make_spans())
        spans.shutdown()
        assert len(collector.spans) == 3
