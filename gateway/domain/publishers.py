"""Who may publish for a tenant, as its policy says: by which topics, and signed with which keys."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.domain.policy_part import PolicyPart

__all__ = ["PublisherKey", "Publishers"]

# What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo: https://www.rfc-editor.org/rfc/rfc8410#section-4
_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_KEY_BYTES: Final = 32


def _raw(text: str) -> bytes | None:
    try:
        der = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return der[len(_PREFIX) :] if der.startswith(_PREFIX) and len(der) == len(_PREFIX) + _KEY_BYTES else None


def _public(value: str) -> str:
    if _raw(value) is None:
        raise ValueError("must be an Ed25519 public key: the line between BEGIN and END of what openssl pkey -pubout writes")
    return value


TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class PublisherKey(PolicyPart):
    """A producer's public key. A revoked one stays in the file, so that its use is told as that."""

    public: Annotated[str, AfterValidator(_public)]  # base64 of the DER form
    revoked: Annotated[bool, Field(strict=True)] = False

    @property
    def raw(self) -> bytes:
        """The key's 32 bytes."""
        return _raw(self.public) or b""


class Publishers(PolicyPart):
    """What an event of the tenant must satisfy: all that is said here."""

    topics: tuple[TopicName, ...] = ()  # it comes by one of these, which carry no other tenant's events
    keys: Mapping[KeyId, PublisherKey] = {}  # it is signed with one of these

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.topics and not self.keys:
            raise ValueError("must name topics, keys or both")
        if len(set(self.topics)) != len(self.topics):
            raise ValueError("names a topic twice")
        return self
