"""Where the brokers are and how to speak with them; and what the client library may log."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.domain.errors import SettingsError

__all__ = ["BrokerAddress", "client_options"]


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The brokers' addresses (``host:port``, separated by commas) and the way in. The password is not shown."""

    servers: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    client_id: str = "sms-gateway"

    def __post_init__(self) -> None:
        if not self.servers.strip():
            raise SettingsError("Kafka: no address of a broker is given")
        if self.security_protocol.startswith("SASL") and not (self.username and self.password):
            raise SettingsError(f"Kafka: {self.security_protocol} needs a user name and a password")
        if self.ca_file is not None and not self.security_protocol.endswith("SSL"):
            raise SettingsError(f"Kafka: a CA file is given, and {self.security_protocol} does not use TLS")


def client_options(address: BrokerAddress) -> dict[str, Any]:
    """The arguments that every aiokafka client takes. Also makes sure that no client logs what a record holds."""
    hide_payloads()
    options: dict[str, Any] = {
        "bootstrap_servers": address.servers,
        "security_protocol": address.security_protocol,
        "client_id": address.client_id,
    }
    if address.security_protocol.endswith("SSL"):
        try:
            options["ssl_context"] = _tls(address)
        except (OSError, ssl.SSLError) as problem:
            raise SettingsError(f"Kafka: a certificate or key file cannot be read: {type(problem).__name__}") from None
    if address.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = address.sasl_mechanism
        options["sasl_plain_username"] = address.username
        options["sasl_plain_password"] = address.password
    return options


def _tls(address: BrokerAddress) -> ssl.SSLContext:
    """Whom we trust, and for mutual TLS who we are."""
    context = ssl.create_default_context(cafile=address.ca_file)
    if address.certificate_file is not None:
        context.load_cert_chain(address.certificate_file, address.key_file)
    return context


def hide_payloads() -> None:
    """Take debug records from aiokafka's loggers, whatever levels are set: they show keys, values and whole requests."""
    for name in [name for name in logging.root.manager.loggerDict if name == "aiokafka" or name.startswith("aiokafka.")]:
        logger = logging.getLogger(name)
        if _above_debug not in logger.filters:
            logger.addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
