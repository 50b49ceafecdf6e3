"""The signature of an event: what is read of a JWS, what is refused, and that Ed25519 is the standard's."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as some

from gateway.crypto.signing import signer, verified
from gateway.domain.errors import GatewayError, NotAllowed
from gateway.domain.event_signature import protected_header, read_signature, signature_of, signed_bytes

HEADER: dict[str, Any] = {
    "alg": "EdDSA", "kid": "shop-2026", "iat": 1_790_000_000, "ce_id": "e1", "ce_source": "test", "ce_type": "t",
}  # fmt: skip


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(signature: bytes = b"s" * 64, **changed: Any) -> bytes:
    header = {name: value for name, value in (HEADER | changed).items() if value is not ...}
    return encoded(json.dumps(header).encode()) + b".." + encoded(signature)


def test_the_example_of_rfc_8037_is_right_and_any_other_payload_wrong() -> None:
    # https://www.rfc-editor.org/rfc/rfc8037#appendix-A.4
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    signature = base64.urlsafe_b64decode(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg=="
    )
    protected = b"eyJhbGciOiJFZERTQSJ9"
    assert signed_bytes(protected, b"Example of Ed25519 signing") == b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert verified(public, signature, signed_bytes(protected, b"Example of Ed25519 signing"))
    assert not verified(public, signature, signed_bytes(protected, b"Example of Ed25519 signinG"))
    assert not verified(public, signature[::-1], signed_bytes(protected, b"Example of Ed25519 signing"))


@given(some.text(max_size=20), some.text(max_size=20), some.binary(max_size=200))
def test_what_is_signed_is_read_again_and_is_right(event_id: str, source: str, value: bytes) -> None:
    key = Ed25519PrivateKey.generate()
    header = protected_header(key_id="k", signed_at=5, event_id=event_id, source=source, event_type="t")
    found = read_signature(signature_of(header, value, key.sign))
    assert (found.key_id, found.signed_at, found.event_id, found.source, found.type) == ("k", 5, event_id, source, "t")
    public = key.public_key().public_bytes_raw()
    assert verified(public, found.signature, signed_bytes(found.protected, value))
    assert not verified(public, found.signature, signed_bytes(found.protected, value + b" "))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_both_names_of_the_algorithm_are_taken(name: str) -> None:
    assert read_signature(token(alg=name)).key_id == "shop-2026"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b".", b"..", b"...", b"a..b", b"\xff..\xff", b"x" * 9000,
        token() + b".", token().replace(b"..", b".cGF5bG9hZA."),
        token(signature=b"s" * 63), token(signature=b""),
        token(alg="none"), token(alg="HS256"), token(alg=...), token(alg=["EdDSA"]), token(alg={}),
        token(crit=["b64"], b64=False), token(b64=False), token(crit=[]),
        token(kid=...), token(kid=5), token(iat=...), token(iat="5"), token(iat=True), token(iat=1.5), token(iat=10**400), token(iat=-1), token(ce_id=...),
        token(ce_source=None), token(ce_type=...),
        encoded(b"[]") + b".." + encoded(b"s" * 64),
        encoded(b'{"alg":"none",' + json.dumps(HEADER).encode()[1:]) + b".." + encoded(b"s" * 64),
        encoded(b"[" * 3000) + b".." + encoded(b"s" * 64),
    ],
)  # fmt: skip
def test_what_is_no_signature_of_ours_is_refused_and_not_shown(raw: bytes) -> None:
    with pytest.raises(NotAllowed) as refused:
        read_signature(raw)
    assert (refused.value.reason, refused.value.why) == ("not_allowed", "unreadable")
    assert len(str(refused.value)) < 200


@given(some.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(NotAllowed):
        read_signature(raw)


def test_a_file_without_a_key_is_told_by_its_name() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert verified(key.public_key().public_bytes_raw(), signer(pem, "shop.pem")(b"x"), b"x")
    for wrong in (b"", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", pem[:-40]):
        with pytest.raises(GatewayError, match=r"^shop\.pem holds no Ed25519 private key"):
            signer(wrong, "shop.pem")
