"""What a legal hold keeps beside messages: dead letters, audit records, proofs; each opens under the hold's key alone, and goes with it."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.app.places import keys_place
from gateway.app.retention_rows import holds_of, rows_of
from gateway.domain.consent import Scope
from gateway.domain.events import OptInProof
from gateway.domain.ids import new_uid
from gateway.domain.personal import PhoneNumber
from gateway.domain.retention_days import midnight
from gateway.flow.holds import hold_key
from gateway.flow.retaining import end_all
from tests.integration.audited import chain_of, open_topic
from tests.integration.dying import Killed, dying
from tests.integration.test_retention_killed import LETTER
from tests.integration.test_retention_rows import (
    SECOND,
    kept,
    move_to,
    published,
    readable,
    rows_add_hold,
    run_all,
    today,
    unwell,
)
from tests.integration.world import World

SHOP, PERSON, OTHER = "+12125550130", "+12025550101", "+12025550102"


async def kept_by(world: World, hold: UUID, thing: str) -> list[dict[str, Any]]:
    """What a hold kept of a thing, opened by its key."""
    rows = await world.rows("select sealed from held where hold = $1 and thing = $2 order by name", hold, thing)
    tenant = hold_key(hold).tenant
    return [json.loads(world.parts.vault.open_payload(tenant, "content", hold, row["sealed"])) for row in rows]


async def proof_of(world: World) -> OptInProof:
    said_at = await world.parts.ledger.now() - timedelta(hours=1)
    return OptInProof.model_validate({"medium": "web", "at": said_at, "wording": "Yes, text me."})


async def ended(world: World, hold: UUID) -> None:
    """Released, all that it kept is gone, and what a backup has of it."""
    await holds_of(world.parts).release(hold, "test")
    await run_all(world)
    assert not await world.rows("select 1 from held where hold = $1", hold)
    key = hold_key(hold)
    assert not readable(world, key.tenant, key.data_class, key.day)


async def test_a_hold_on_a_dead_letter_keeps_that_one(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d, dead_letters: 3d}") as world:
        now, day, uids = await world.parts.ledger.now(), await today(world), []
        for number in range(2):
            uids.append(new_uid(now))
            sealed = world.parts.vault.seal_payload("shop", "dead_letters", uids[number], f"record {number}".encode())
            await world.rows(LETTER, uids[number], "shop", sealed, number)
        hold = await rows_add_hold(world, "shop", uid=uids[0])
        await run_all(world, await move_to(world, midnight(day) + timedelta(days=3) - SECOND))
        assert len(await world.rows("select 1 from dead_letters")) == 2
        await move_to(world, midnight(day) + timedelta(days=3) + SECOND)
        await run_all(world)
        assert not await world.rows("select 1 from dead_letters")
        assert not readable(world, "shop", "dead_letters", day)
        (letter,) = await kept_by(world, hold, "dead_letters")
        assert (letter["name"], base64.b64decode(letter["body"])) == (str(uids[0]), b"record 0")
        assert letter["record"]["reason"] == "nul"
        assert await unwell(world) == []
        await ended(world, hold)


async def test_a_hold_on_a_person_keeps_the_audit_of_what_they_said(
    database_url: str, tmp_path: Path, broker: str, unique: str
) -> None:
    async with (
        kept(database_url, tmp_path, shop="{content: 2d, events: 3d}") as world,
        open_topic(world, broker, unique) as publisher,
    ):
        day, chain = await today(world), chain_of(world, publisher)
        for person in (PERSON, OTHER):
            assert await world.receive("STOP", sender=person, to=SHOP) == "stop"
        hold = await rows_add_hold(world, "shop", PERSON)
        await published(world)
        while await chain.once():
            pass
        await move_to(world, midnight(day) + timedelta(days=3) + SECOND)
        for _ in range(3):
            await run_all(world)
            await published(world)
            while await chain.once():
                pass
        before = midnight(day + timedelta(days=1))
        assert not await world.rows("select 1 from audit_chain where tenant = 'shop' and chained_at < $1", before)
        records = [one["record"] for one in await kept_by(world, hold, "audit")]
        subject = (await world.rows("select subject_id from legal_holds where id = $1", hold))[0]["subject_id"]
        assert {one["person"] for one in records} == {world.parts.hasher.person_key("shop", subject)}
        assert {one["step"] for one in records} >= {"opt_out_written", "opt_out_in_force"}
        await ended(world, hold)


async def test_a_hold_on_a_person_keeps_the_proof_of_an_opt_in_that_is_undone(database_url: str, tmp_path: Path) -> None:
    """The STOP takes it from nobody whom a hold covers; the next run seals it anew, and the day's key dies for all others."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d, consent_proof: 1mo}") as world:
        day, parts = await today(world), world.parts
        proof = await proof_of(world)
        for person in (PERSON, OTHER):
            granted = await parts.requests("api").opt_in("shop", PhoneNumber(person), Scope.TENANT, "", "test", proof)
            assert granted.granted
        hold = await rows_add_hold(world, "shop", PERSON)
        await run_all(world)
        proofs = "select 1 from consents where proof_sealed is not null"
        assert (len(await world.rows(proofs)), await kept_by(world, hold, "proof")) == (2, [])  # both opt-ins stand
        for person in (PERSON, OTHER):
            assert await world.receive("STOP", sender=person, to=SHOP) == "stop"
        assert await world.receive("STOP", sender=PERSON, to=SHOP) == "stop"
        assert len(await world.rows(proofs)) == 1
        await published(world)
        for after in range(1, 10):
            with suppress(Killed), dying(world, after):
                await rows_of(parts).run(await parts.ledger.now(), 100)
                break
            assert len(await world.rows(proofs)) + len(await kept_by(world, hold, "proof")) == 1
        assert not await world.rows(proofs)
        (one,) = await kept_by(world, hold, "proof")
        said = json.loads(base64.b64decode(one["proof"]))
        assert (said["wording"], one["record"]["status"], one["record"]["source"]) == ("Yes, text me.", "out", "text")

        await move_to(world, midnight(day) + timedelta(days=40))
        for _ in range(2):
            await run_all(world)
            await published(world)
        await end_all(keys_place(parts), await parts.ledger.now())
        assert not readable(world, "shop", "consent", day)
        assert len(await kept_by(world, hold, "proof")) == 1
        await ended(world, hold)
        assert await world.rows("select distinct status from consents") == [{"status": "out"}]


async def test_a_proof_whose_hold_is_released_before_it_was_sealed_anew_goes(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d}") as world:
        proof = await proof_of(world)
        await world.parts.requests("api").opt_in("shop", PhoneNumber(PERSON), Scope.TENANT, "", "test", proof)
        hold = await rows_add_hold(world, "shop")
        assert await world.receive("STOP", sender=PERSON, to=SHOP) == "stop"
        assert await world.rows("select 1 from consents where proof_sealed is not null")
        await ended(world, hold)
        assert not await world.rows("select 1 from consents where proof_sealed is not null or proof_uid is not null")
