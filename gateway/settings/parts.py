"""The sections of the settings: Kafka, and how intake, dispatch and evidence are timed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

__all__ = ["Dispatch", "Evidence", "Intake", "Kafka", "Routing", "Section", "Topics", "Url", "required", "setting"]

_REQUIRED: Any = ...
_HIGHEST_PORT = 65_535


def setting(default: object, text: str, *, unit: str = "", example: object = None, **bounds: Any) -> Any:
    """A field with what docs/configuration.md says of it; ``example`` is shown where there is no default to show."""
    extra: dict[str, object] = {"unit": unit, "example": example}
    return Field(default, description=text, json_schema_extra=extra, **bounds)  # type: ignore[arg-type] # the bounds of many types


def required(text: str, *, example: object, **bounds: Any) -> Any:
    """A field that has no default."""
    return setting(_REQUIRED, text, example=example, **bounds)


def _url(value: str) -> str:
    """An absolute http(s) URL without query, fragment or credentials, and without a slash at its end."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # a ValueError for what is no port
    except ValueError:  # its text quotes the URL
        raise ValueError("must be a URL, such as https://sms.example.com") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(character.isspace() for character in value):
        raise ValueError("must be a URL that begins with https:// (http:// for a simulator)")
    if parts.username is not None or "?" in value or "#" in value:
        raise ValueError("must be a URL without user, query and fragment")
    return value.rstrip("/")


def _servers(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
            raise ValueError("must be host:port, with commas between several")
    return value


Url = Annotated[str, AfterValidator(_url)]
Servers = Annotated[str, AfterValidator(_servers)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Section(BaseModel):
    """A part of the settings: frozen, refuses what it does not know, and keeps values out of its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Topics(Section):
    """Names of the Kafka topics."""

    outbound: TopicName = setting("sms.outbound.v1", "Messages to send; read.")
    status: TopicName = setting("sms.status.v1", "What became of each message; written.")
    inbound: TopicName = setting("sms.inbound.v1", "Texts from people that are no STOP, START or HELP; written.")
    consent: TopicName = setting("sms.consent.v1", "Opt-ins and opt-outs; written, compacted.")
    dead_letter: TopicName = setting("sms.outbound.dlq.v1", "Events that can't be processed, with the reason; written.")
    metrics: TopicName = setting("sms.metrics.v1", "Counts of status events, small ones suppressed; written.")
    audit: TopicName = setting("sms.audit.v1", "Each tenant's chained audit; written.")
    stop_spool: TopicName = setting(
        "sms.stop-spool.v1", "STOPs that came while PostgreSQL was away; written and read, one partition."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = list(self.model_dump().values())
        if len(set(names)) != len(names):
            raise ValueError("two topics have the same name")
        return self


class Kafka(Section):
    """How Kafka is reached. Without ``servers`` the embedded broker is started: in memory, for trying things out."""

    servers: Servers | None = setting(
        None,
        "Brokers to ask first, host:port with commas between; none starts the embedded broker.",
        example="kafka-1:9092,kafka-2:9092",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting("SCRAM-SHA-512", "How to sign in, with SASL.")
    sasl_username: str | None = setting(None, "Who signs in; needed with SASL.", example="sms-gateway", min_length=1)
    sasl_password: SecretStr | None = setting(
        None, "Its password; needed with SASL.", example="from your secret store", min_length=1
    )
    ca_file: FilePath | None = setting(
        None, "PEM file of the authorities to trust; none trusts the system's.", example="/etc/kafka/ca.pem"
    )
    certificate_file: FilePath | None = setting(
        None, "PEM file of our certificate, for mutual TLS.", example="/etc/kafka/tls.crt"
    )
    key_file: FilePath | None = setting(None, "PEM file of its key.", example="/etc/kafka/tls.key")
    client_id: str = setting("sms-gateway", "Our name in the brokers' logs and quotas.", min_length=1, max_length=100)
    group: str = setting("sms-gateway", "Consumer group whose members share the intake.", min_length=1, max_length=200)
    session_seconds: float = setting(
        10.0, "After how long a worker that was killed loses its partitions to others.", unit="s", ge=1, le=300
    )
    fetch_wait_seconds: float = setting(
        0.5,
        "How long a broker holds a fetch until there are records. The embedded broker is slow to notice that, and is asked every 0.02 s.",
        unit="s",
        ge=0.001,
        le=5,
    )
    idempotent: bool = setting(True, "Whether to produce idempotently; the embedded broker can't and ignores this.")
    spool: bool = setting(
        True,
        "Whether STOPs go to a topic while PostgreSQL is away. Nothing is sent then unless that topic can be read. The embedded broker "
        "forgets, and has none.",
    )
    transactional: bool = setting(
        True,
        "Whether the relay publishes in transactions, so that one that froze can't publish something old after something new. Without "
        "``idempotent`` it doesn't; the embedded broker can't and ignores this.",
    )
    transactional_id: str | None = setting(
        None,
        "Name under which the relay publishes, the same for all processes of an installation and no other's; unset: the group with -relay "
        "after it.",
        example="sms-gateway-relay",
        min_length=1,
        max_length=200,
    )
    topics: Topics = setting(Topics(), "Names of the topics.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError("sasl_username and sasl_password are needed with a SASL security_protocol")
        if (self.certificate_file is None) is not (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if not self.security_protocol.endswith("SSL") and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file need security_protocol SSL or SASL_SSL")
        return self


class Dispatch(Section):
    """How long a claim, a request and a STOP may take. The fuse and STOP's promise hang on these: change them together."""

    request_seconds: float = setting(
        7.0, "A provider request's whole time: pool, DNS, connect, TLS, answer.", unit="s", gt=0, le=60
    )
    fuse_seconds: float = setting(2.0, "A worker whose event loop stood still this long is killed.", unit="s", ge=0.2, le=60)
    lease_seconds: float = setting(
        10.0, "How long a claim lasts; at least request_seconds + fuse_seconds + 1.", unit="s", gt=0, le=60
    )
    stop_wait_seconds: float = setting(
        12.0, "How long a STOP may wait to be in force; more than lease_seconds.", unit="s", gt=0, le=12
    )
    backoff_first_seconds: float = setting(
        1.0, "First wait before a request that surely was not accepted is repeated.", unit="s", gt=0, le=3600
    )
    backoff_most_seconds: float = setting(300.0, "Longest wait between repeats.", unit="s", gt=0, le=86_400)
    claim_batch: int = setting(100, "Most messages claimed in one transaction.", unit="messages", ge=1, le=5_000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lease_seconds < self.request_seconds + self.fuse_seconds + 1:
            raise ValueError("lease_seconds must be at least request_seconds + fuse_seconds + 1")
        if self.stop_wait_seconds <= self.lease_seconds:
            raise ValueError("stop_wait_seconds must be more than lease_seconds")
        if self.backoff_most_seconds < self.backoff_first_seconds:
            raise ValueError("backoff_most_seconds must be at least backoff_first_seconds")
        return self


class Routing(Section):
    """When an account is not used for a while, and how long a person keeps a sender."""

    failures: int = setting(
        5,
        "After how many requests in a row that an account did not answer, or of which nobody knows the outcome, it is not used.",
        unit="requests",
        ge=1,
        le=1_000,
    )
    open_first_seconds: float = setting(
        5.0, "How long it is not used at first; then one request tries it.", unit="s", gt=0, le=3600
    )
    open_most_seconds: float = setting(
        120.0, "Longest time between two tries; it doubles with each that fails.", unit="s", gt=0, le=86_400
    )
    keep_sender_days: int = setting(
        180, "How long a person keeps a programme's sender without being texted.", unit="days", ge=1, le=3650
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.open_most_seconds < self.open_first_seconds:
            raise ValueError("open_most_seconds must be at least open_first_seconds")
        return self


class Evidence(Section):
    """How long the gateway waits for proof of what became of a message."""

    list_after_seconds: float = setting(
        5.0, "When the provider's list is first asked about an unknown outcome.", unit="s", gt=0, le=3600
    )
    unknown_after_seconds: float = setting(
        3600.0, "When a message without evidence ends as unknown.", unit="s", gt=0, le=7 * 86_400
    )
    sent_final_after_seconds: float = setting(
        72 * 3600.0, "When sent without a delivery report is final.", unit="s", gt=0, le=30 * 86_400
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.list_after_seconds >= self.unknown_after_seconds:
            raise ValueError("list_after_seconds must be less than unknown_after_seconds")
        return self


class Intake(Section):
    """How much is taken in at once, and when intake stops for dispatch to catch up."""

    batch: int = setting(500, "Most events decided in one transaction.", unit="events", ge=1, le=10_000)
    waiting_high: int = setting(50_000, "Intake pauses when this many messages wait.", unit="messages", ge=1)
    waiting_low: int = setting(40_000, "Intake goes on when no more than this many wait.", unit="messages", ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.waiting_low >= self.waiting_high:
            raise ValueError("waiting_low must be less than waiting_high")
        return self
