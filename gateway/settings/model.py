"""All the settings, their defaults, and what must hold between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.settings.accounts import Account
from gateway.settings.parts import Dispatch, Evidence, Intake, Kafka, Routing, Url, setting

__all__ = ["ENVIRONMENT_DELIMITER", "ENVIRONMENT_PREFIX", "Settings"]

ENVIRONMENT_PREFIX = "GATEWAY_"
ENVIRONMENT_DELIMITER = "__"

Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(_[a-z0-9-]+)*$", max_length=32)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """Everything that a start of the gateway may be told. Made by :func:`gateway.settings.load`; frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        validate_default=False,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
    )

    state_directory: Path = setting(
        Path(".gateway"),
        "Where the embedded PostgreSQL and, unless set, the key ring keep their files. Unset: $XDG_STATE_HOME/sms-gateway, else "
        "~/.local/state/sms-gateway, else ./.gateway.",
        example="/var/lib/sms-gateway",
    )
    database_url: SecretStr | None = setting(
        None,
        "PostgreSQL to use; none starts the embedded one.",
        example="postgresql://gateway@db.internal/gateway",
        min_length=1,
    )
    database_pool: int = setting(10, "Most connections of a process to PostgreSQL.", unit="connections", ge=2, le=500)
    policies_directory: Path = setting(Path("policies"), "Where the tenants' policy files are, one YAML each.")
    key_ring_directory: Path | None = setting(
        None,
        "Where the keys that seal numbers and texts are; keep it out of the database's backups. Unset: keys in state_directory.",
        example="/var/lib/sms-gateway-keys",
    )
    key_ring_url: SecretStr | None = setting(
        None,
        "PostgreSQL that keeps the key ring; goes before key_ring_directory. It is another server than the data's, or the start is refused. Its table is "
        "made when it is absent. Needs master keys.",
        example="postgresql://keys@keys.internal/keys",
        min_length=1,
    )
    master_keys_file: Path | None = setting(
        None,
        "File with the master keys that wrap those of the key ring, name:base64 of 32 bytes a line; all unwrap, the last wraps. It is read "
        "again every few seconds. Unset: master/keys in state_directory, made for a new key ring in a directory.",
        example="/run/secrets/sms-gateway-master-keys",
    )
    master_keys: SecretStr | None = setting(
        None,
        "The master keys themselves, with commas between; goes before master_keys_file.",
        example="2026-11:base64 from your secret store",
        min_length=1,
    )
    public_url: Url | None = setting(
        None,
        "The address at which providers reach the web; webhook signatures are checked against it, whatever a proxy says. "
        "Needed as soon as there is an account.",
        example="https://sms.example.com",
    )
    web_host: str = setting("127.0.0.1", "Address on which the public web listens; 0.0.0.0 or :: for all.", min_length=1)
    web_port: Port = setting(8080, "Port of the public web; 0 takes a free one.")
    web_body_limit: int = setting(65_536, "Longest request body taken.", unit="bytes", ge=1024, le=16_777_216)
    web_requests: int = setting(
        1_000, "Requests under way at once in a process; more are answered 503.", unit="requests", ge=8, le=100_000
    )
    admin_host: str = setting("127.0.0.1", "Address on which health and metrics listen.", min_length=1)
    admin_port: Port = setting(9090, "Port of health and metrics; 0 takes a free one.")
    message_id_window_days: int = setting(
        35,
        "How long a message_id is remembered; the input topic must keep its records no longer.",
        unit="days",
        ge=1,
        le=400,
    )
    trust_failover: bool = setting(
        False,
        "Whether a standby that was promoted has everything that was committed, as with synchronous replication: a failover then holds "
        "nothing. A database that was restored is held all the same.",
    )
    catch_up_days: int = setting(
        3, "How far back a provider's inbound texts are listed when nothing is stored yet.", unit="days", ge=1, le=30
    )
    smallest_count: int = setting(
        5,
        "The smallest count of status events that is told as it is; smaller ones wait for their hour or day, or are merged.",
        unit="events",
        ge=1,
        le=1_000,
    )
    allow_list_file: FilePath | None = setting(
        None,
        "File with one number a line; when set, only these are texted. For staging.",
        example="/etc/sms-gateway/allowed.txt",
    )
    drain_seconds: float = setting(20.0, "How long a stop may take; at least dispatch.request_seconds.", unit="s", gt=0, le=3600)
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least important log entry to write.")
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "How log entries look; auto is console at a terminal, else json."
    )
    workers: int = setting(1, "Worker processes to start.", unit="processes", ge=1, le=256)
    kafka: Kafka = setting(Kafka(), "How Kafka is reached.")
    dispatch: Dispatch = setting(Dispatch(), "Times of claim, request and STOP.")
    evidence: Evidence = setting(Evidence(), "How long proof is waited for.")
    routing: Routing = setting(Routing(), "When an account is not used for a while, and how long a person keeps a sender.")
    intake: Intake = setting(Intake(), "How much is taken in.")
    accounts: dict[Alias, Account] = setting(
        {}, "Provider accounts by alias: a small letter, then small letters, digits, - and single _."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given: the environment is read in one place, :func:`gateway.settings.load`."""
        return (init_settings,)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.accounts and self.public_url is None:
            raise ValueError("public_url is needed as soon as there is an account: providers call it")
        if self.key_ring_url is not None and self.master_keys is None and self.master_keys_file is None:
            raise ValueError("key_ring_url needs master_keys_file or master_keys: none are made for it")
        if self.drain_seconds < self.dispatch.request_seconds:
            raise ValueError("drain_seconds must be at least dispatch.request_seconds, or a stop cuts requests off")
        if self.intake.batch > self.intake.waiting_high:
            raise ValueError("intake.batch must not be more than intake.waiting_high")
        if self.web_port and self.web_port == self.admin_port and self.web_host == self.admin_host:
            raise ValueError("web_port and admin_port must differ")
        return self

    @property
    def key_ring(self) -> Path:
        """Where the key ring is: its own directory, else one in the state directory."""
        return self.key_ring_directory or self.state_directory / "keys"
