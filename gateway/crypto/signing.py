"""Ed25519 (RFC 8032): verifying producers' signatures, and signing for ``gateway publish``. The gateway holds no key that signs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.domain.errors import GatewayError

__all__ = ["signer", "verified"]


def verified(public: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether a signature is that of the key's owner, of exactly these bytes. ``public`` is the key's 32 bytes."""
    try:
        _loaded(public).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1024)
def _loaded(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def signer(pem: bytes, shown: str) -> Callable[[bytes], bytes]:
    """What signs with the private key of a PEM file. GatewayError, naming ``shown``, when that holds no Ed25519 key in the clear."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise GatewayError(
            f"{shown} holds no Ed25519 private key in PEM, or an encrypted one: openssl genpkey -algorithm ed25519"
        )
    return key.sign
