"""Each field that goes out to a provider stands on the data map: everything is asked of each, and what came over the wire is compared."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.domain.mapped_rest import PROVIDERS
from gateway.domain.personal import PhoneNumber
from gateway.domain.webhooks import WebhookRequest
from gateway.flow.provider import OptOutWord, Provider
from gateway.providers.names import PROVIDERS as NAMES
from tests.contract.conformance.ringcentral_subject import RingCentralBatches, RingCentralSingles
from tests.contract.conformance.subject import NOON, NUMBER, WEBHOOKS, Books, Came, Reply, Sent, Standing, Subject, standing, text
from tests.contract.conformance.twilio_subject import TwilioSubject
from tests.contract.wire import Received

PERSON = PhoneNumber(NUMBER)
SUBJECTS: dict[str, list[tuple[Subject, dict[str, Any]]]] = {
    "twilio": [
        (TwilioSubject(), {"consents_api": True, "content_retention": "retain", "address_retention": "retain"}),
    ],
    "ringcentral": [(RingCentralSingles(), {}), (RingCentralBatches(), {})],
}
SERVICE = "MG" + "0" * 32
CONSENTS = "/restapi/v2/accounts/1/sms/consents"


async def ask_everything(one: Standing, senders: Sequence[str]) -> set[str]:
    """All questions of the port; returns their names."""
    ask, known = one.provider, one.subject.accepted_id(Sent(1))
    words = [OptOutWord(PERSON, one.subject.sender, opted_out=said, at=NOON) for said in (True, False)]
    asked: dict[str, list[Awaitable[object]]] = {
        "send": [ask.send([text(1, sender=sender)]) for sender in senders],
        "list_sent": [ask.list_sent(PERSON, sender, NOON) for sender in senders],
        "list_inbound": [ask.list_inbound(sender, NOON) for sender in senders],
        "inbound_created_at": [ask.inbound_created_at(known)],
        "hear": [ask.hear(webhook) for webhook in webhooks(one.subject)],
        "redact": [ask.redact(known)],
        "delete": [ask.delete(known)] if ask.abilities.deletes else [],
        "oldest_copies": [ask.oldest_copies(sender, NOON) for sender in senders],
        "tell_opt_outs": [ask.tell_opt_outs(words)],
        "list_opt_outs": [ask.list_opt_outs(sender, NOON) for sender in senders],
        "cancel_scheduled": [ask.cancel_scheduled(PERSON, senders)],
        "keep_up": [ask.keep_up(f"{WEBHOOKS}/{ask.name}/main")],
        "check": [ask.check()],
    }
    for questions in asked.values():
        for question in questions:
            await question
    return set(asked)


def webhooks(subject: Subject) -> Iterator[WebhookRequest]:
    """Of a provider that is asked what they speak of."""
    yield subject.came(Came(2))
    yield subject.became(Sent(1))
    if isinstance(subject, RingCentralSingles | RingCentralBatches):
        yield subject._event(CONSENTS, {"records": [{"from": subject.sender, "to": NUMBER}]})


def fields_of(request: Received) -> Iterator[str]:
    """The names of what is asked with and of what is said, those inside of others after a dot."""
    yield from (name for name, _ in parse_qsl(urlsplit(request.target).query, keep_blank_values=True))
    if request.body:
        content = json.loads(request.body) if b"json" in request.header("content-type")[0].encode() else None
        for name, value in (
            _leaves(content, "") if content is not None else parse_qsl(request.body.decode(), keep_blank_values=True)
        ):
            inside = json.loads(value) if isinstance(value, str) and value.startswith("{") else None
            yield from (f"{name}.{leaf}" for leaf, _ in _leaves(inside, "")) if inside is not None else [name]


def _leaves(node: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else key)
    elif isinstance(node, list):
        for item in node:
            yield from _leaves(item, name)
    else:
        yield name, node


@pytest.mark.parametrize("name", NAMES)
async def test_every_field_that_a_provider_is_sent_is_on_the_map(name: str) -> None:
    (area,) = [area for area in PROVIDERS.areas if area.name == name]
    sent: set[str] = set()
    for subject, settings in SUBJECTS[name]:
        of_others: Any = "scheduled"  # as other systems may have done
        books = Books([Sent(1), Sent(4), *([Sent(3, state=of_others)] if name == "twilio" else [])], [Came(2)], page=1)

        def other(request: Received, subject: Subject = subject, books: Books = books) -> Reply:
            if request.target == "/restapi/v1.0/subscription":
                return 200, {"records": []}
            reply = subject.answer(request, books)
            if b"Status=canceled" in request.body and isinstance(reply[1], dict):
                reply[1]["status"] = "canceled"
            return reply

        async with standing(subject, books, other=other, **settings) as one:
            asked = await ask_everything(one, [subject.sender, SERVICE] if name == "twilio" else [subject.sender])
        assert asked == {method for method in vars(Provider) if callable(vars(Provider)[method]) and method[0] != "_"} - {"close"}
        sent |= {field for request in one.server.requests for field in fields_of(request)}
    assert sorted(sent) == sorted(area.names), "say in gateway/domain/mapped_rest.py what a new field is"
