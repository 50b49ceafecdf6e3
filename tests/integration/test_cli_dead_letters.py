"""Dead letters and publishers as users meet them: commands in processes of their own, against a gateway on embedded servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.canary import CANARY_BODY, traces_in
from tests.integration.test_cli import PROJECT, Gateway, make_gateway
from tests.support import until_sync

pytestmark = pytest.mark.slow

CLINIC = {
    "message_id": "visit-1",
    "tenant": "northside-clinic",
    "programme": "appointments",
    "category": "service",
    "to": "+12025550101",
    "body": CANARY_BODY,
}


class Shell:
    """A user at a shell of the gateway's machine."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.policies = Path(gateway.environment["GATEWAY_POLICIES_DIRECTORY"])

    def run(self, *arguments: str, given: str = "", **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            check=False, capture_output=True, text=True, timeout=60, input=given, cwd=PROJECT,
            env={**os.environ, **self._gateway.environment, **environment},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        if "--payload" not in arguments:
            assert not traces_in(done.stdout + done.stderr)
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0, **environment: str) -> Any:
        told, out, err = self.run(*arguments, "--json", **environment)
        assert told == code, err
        return json.loads(out)

    def letters(self, count: int, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.json("dead-letters", "list", *arguments)["dead_letters"]
            return len(found) >= count

        until_sync(there, 40, f"{count} dead letters")
        assert len(found) == count
        return found

    def state(self, tenant: str, message_id: str) -> str | None:
        code, out, _ = self.run("status", "--tenant", tenant, message_id, "--json")
        return json.loads(out)["state"] if code == 0 else None

    def allow(self, tenant: str, more: str = "") -> None:
        text = (PROJECT / "policies" / f"{tenant}.yaml").read_text()
        (self.policies / f"{tenant}.yaml").write_text(text + more)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    policies = tmp_path / "policies"
    policies.mkdir()
    shutil.copy(PROJECT / "policies" / "harbour-books.yaml", policies)
    yield from make_gateway(tmp_path, GATEWAY_POLICIES_DIRECTORY=str(policies))


def test_a_missing_policy_is_added_and_what_it_cost_is_put_back(gateway: Gateway) -> None:
    gateway.start()
    shell = Shell(gateway)
    assert "whoever may write to the topic sms.outbound.v1 may publish as harbour-books" in gateway.log()
    assert shell.run("dead-letters", "list")[1] == "there is no such dead letter\n"
    assert shell.run("publish", "-", given=json.dumps(CLINIC))[0] == 0
    (letter,) = shell.letters(1)
    first = letter["id"]
    assert (letter["reason"], letter["tenant"], letter["kept"]) == ("unknown_tenant", "_system", True)
    assert first in shell.run("dead-letters", "list", "--reason", "unknown_tenant", "--since", "1h", "--tenant", "_system")[1]
    assert shell.letters(0, "--reason", "nul") == []
    code, out, _ = shell.run("dead-letters", "show", first)
    assert code == 0
    assert "kept, sealed" in out

    # who may see what is in it
    def token(*arguments: str) -> str:
        return str(shell.json("tokens", "create", *arguments)["token"])

    for wrong in (
        "",
        "smsgw_nonsense",
        token("api", "--all-tenants"),
        token("shop", "--tenant", "harbour-books", "--right", "read-payloads"),
    ):
        code, out, err = shell.run("dead-letters", "show", first, "--payload", SMSGW_TOKEN=wrong)
        assert (code, out) == (1, "")
        assert f"dead letter {first} stays sealed" in err
        assert not traces_in(err)
        assert "smsgw_" not in err
    reader = token("jane", "--all-tenants", "--right", "read-payloads")
    shown = shell.json("dead-letters", "show", first, "--payload", SMSGW_TOKEN=reader)
    assert json.loads(shown["record"]["value"]) == CLINIC
    code, out, _ = shell.run("dead-letters", "show", first, "--payload", given=reader + "\n")
    assert code == 0
    assert CANARY_BODY in out
    steps = [(one["step"], one["reason"]) for one in shell.json("dead-letters", "show", first)["steps"]]
    assert steps == [
        ("dead_lettered", "unknown_tenant"), ("payload_refused", "no_token"), ("payload_refused", "unknown_token"),
        ("payload_refused", "no_right"), ("payload_refused", "other_tenant"), ("payload_read", None), ("payload_read", None),
    ]  # fmt: skip

    # put back too early, it is refused again, and names the first
    assert shell.json("dead-letters", "replay", first) == {"replayed": [first], "not_replayed": []}
    newer, _ = shell.letters(2)
    assert (newer["replay_of"], newer["reason"]) == (first, "unknown_tenant")
    told = shell.json("dead-letters", "replay", first, code=1)
    assert "--again" in told["not_replayed"][0]["why"]
    assert shell.letters(1, "--not-replayed")[0]["id"] == newer["id"]

    # the policy is there: with a confirmation, all that is left is put back, and accepted
    assert gateway.end() == 0
    shell.allow("northside-clinic")
    gateway.start()
    code, _, err = shell.run("dead-letters", "replay", "--reason", "unknown_tenant")
    assert code == 2
    assert "1 dead letter would be put back: say --yes" in err
    code, out, _ = shell.run("dead-letters", "replay", "--reason", "unknown_tenant", "--yes")
    assert code == 0
    assert out.startswith("1 dead letter put back\n")
    assert "message_id" in out
    until_sync(lambda: shell.state("northside-clinic", "visit-1") == "delivered", 40, "the message")
    # the other one is the same message: it has its fate, and nobody is texted twice
    assert shell.json("dead-letters", "replay", "--reason", "unknown_tenant", "--again", "--yes")["not_replayed"] == []
    until_sync(lambda: 'sms_gateway_intake_records_total{result="duplicate"} 2.0' in gateway.metrics(), 40, "both are read")
    shell.letters(2)
    assert gateway.carrier("/stats")["accepted"] == 1
    assert gateway.end() == 0
    assert not traces_in(gateway.log())


def test_a_tenant_that_is_bound_is_published_as_by_its_own_producer_alone(gateway: Gateway, tmp_path: Path) -> None:
    shell = Shell(gateway)
    own = "sms.outbound.clinic.v1"
    gateway.directory.joinpath("visit.json").write_text(json.dumps(CLINIC))
    visit = str(gateway.directory / "visit.json")
    key = Ed25519PrivateKey.generate()
    (tmp_path / "clinic.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = subprocess.run(  # as the documents say
        ["openssl", "pkey", "-in", str(tmp_path / "clinic.pem"), "-pubout"],  # noqa: S607 -- openssl of PATH, as docs/events.md says
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()[1]  # fmt: skip
    shell.allow("northside-clinic", f"publishers:\n  topics: [{own}]\n  keys:\n    clinic-2026: {{public: {public}}}\n")
    gateway.start()
    assert "may publish as harbour-books:" in gateway.log()
    sign = ["--key-file", str(tmp_path / "clinic.pem"), "--key-id", "clinic-2026"]
    assert own in {one["topic"] for one in shell.json("topics", "show")["topics"]}
    assert shell.run("publish", visit, *sign)[0] == 0
    assert shell.run("publish", visit, "--topic", own)[0] == 0
    letters = shell.letters(2)
    assert {(one["reason"], one["topic"]) for one in letters} == {("not_allowed", "sms.outbound.v1"), ("not_allowed", own)}
    assert shell.run("publish", visit, "--topic", own, *sign)[0] == 0
    until_sync(lambda: shell.state("northside-clinic", "visit-1") == "delivered", 40, "the message")
    assert shell.run("publish", visit, "--key-id", "clinic-2026")[0] == 2
    assert shell.run("publish", visit, "--key-file", visit, "--key-id", "clinic-2026")[0] == 1
    shell.letters(2)
    assert gateway.end() == 0
    assert not traces_in(gateway.log())
