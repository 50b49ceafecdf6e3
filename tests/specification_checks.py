"""Exchanges with the simulator, checked against the providers' own specifications, of which a copy is given by its path.

``pytest --twilio-spec twilio_api_v2010.json --ringcentral-spec rc-public-openapi.yml`` records every exchange that a test has with a
simulator in its process, whoever sent it, and judges it when the test has ended: what the simulator answered, the events that it
posted, and, where it took the request, what was sent. So the tests of an adapter check what that sends, as they are.

Twilio's consents stand in a document of their own, which ``--twilio-consents-spec twilio_accounts_v1.json`` gives.

Faults that a script asks for are not judged: 5xx, and a body that is cut or is no JSON.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import pytest
from jsonschema import Draft202012Validator

from gateway.simulator.carrier import Carrier
from gateway.simulator.http_client import Answer
from gateway.simulator.outside import Outside
from gateway.simulator.wire import Receive, Scope, Send
from tests.specification import Specification, Taken

__all__ = ["SpecificationChecks", "consents_differences", "events_differences"]

_ROOTS: Final = {"twilio": "/2010-04-01/", "twilio-consents": "/v1/", "ringcentral": "/restapi/"}
_NAMES: Final = {"twilio": "Twilio", "twilio-consents": "Twilio's consents", "ringcentral": "RingCentral"}
#: What no schema says anything of, although it passes: the summary names it.
_NO_SCHEMA: Final = {"twilio": "webhooks"}

#: By the end of an event's filter: the schema of the whole event, or the schema of its body where the envelope has none. The event of
#: A2P opt-outs has none at all: guide/notifications/event-filters/batch-message-optout
_EVENTS: Final = {"/message-store/instant": "InstantMessageEvent", "/message-store": "MessageEvent"}
_BODIES: Final = {
    "/a2p-sms/messages": "MessageDetailsResponse",
    "/a2p-sms/batches": "MessageBatchResponse",
    "/sms/consents": "SmsOptRecord",  # of each of its records
}

#: One of ``Items``, and of the answer's ``items``: the document says this in the description of both, and has no schema for either.
_TOLD: Final = {
    "type": "object",
    "required": ["contact_id", "correlation_id", "sender_id", "status", "source"],
    "additionalProperties": False,
    "properties": {
        "contact_id": {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"},
        "correlation_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "sender_id": {"type": "string", "pattern": r"^(MG[0-9a-f]{32}|\+?[0-9]+)$"},
        "status": {"enum": ["opt-in", "opt-out"]},
        "source": {"enum": ["website", "offline", "opt-in-message", "opt-out-message", "others"]},
        "date_of_consent": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?$"},
    },
}
_ANSWERED: Final = {
    "type": "object",
    "required": ["correlation_id", "error_code", "error_messages"],
    "additionalProperties": False,
    "properties": {
        "correlation_id": {"type": "string"},
        "error_code": {"type": "integer"},
        "error_messages": {"type": "array", "items": {"type": "string"}},
    },
}

#: Where the documents say more than the schemas. A difference that one of these matches is none.
_DOCUMENTED: Final = (
    # "you can use the wildcard *": guide/messaging/sms/messaging-consent-management
    re.compile(r"PATCH \S+/sms/consents .*'from': '\*'"),
    # A subscription's identifier has 36 characters: guide/notifications/webhooks/troubleshooting
    re.compile(r"\w+ /restapi/v1\.0/subscription/\S+ .*parameter subscriptionId"),
    # Every example of an event has it outside its body: guide/notifications/event-filters
    re.compile(r"(InstantMessageEvent|MessageEvent) \.ownerId, which is not specified"),
    # The schema asks every message for what only a voicemail has.
    re.compile(r"GET \S+/message-store/\d+ 200 answers : 'vmSideRecipients' is a required property"),
)


def events_differences(specification: Specification, events: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What of RingCentral's events is not as specified, and the filters of those that nothing is specified for."""
    found: list[str] = []
    strange: list[str] = []
    for event in events:
        path = event["event"].partition("?")[0]
        if (whole := _by_end(_EVENTS, path)) is not None:
            found += specification.event_differences(whole, event)
        elif (name := _by_end(_BODIES, path)) is not None:
            bodies = event["body"]["records"] if name == "SmsOptRecord" else [event["body"]]
            found += [one for body in bodies for one in specification.event_differences(name, body)]
        else:
            strange.append(path)
    return found, strange


def _by_end(schemas: Mapping[str, str], path: str) -> str | None:
    return next((name for end, name in schemas.items() if path.endswith(end)), None)


def consents_differences(taken: Taken) -> list[str]:
    """What of consents that Twilio took is not as its document's words say."""
    if taken.status != 201:
        return []
    given = [json.loads(value) for name, value in parse_qsl(taken.request.decode()) if name == "Items"]
    try:
        answered = json.loads(taken.answer)["items"]
    except ValueError:
        return []
    refused = {one["correlation_id"] for one in answered if one["error_code"]}
    found = [one for item in given if item.get("correlation_id") not in refused for one in _wrong(_TOLD, item)]
    return [*(f"Items {one}" for one in found), *(f"items {one}" for item in answered for one in _wrong(_ANSWERED, item))]


def _wrong(schema: Mapping[str, Any], value: object) -> list[str]:
    errors = Draft202012Validator(schema).iter_errors(value)
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in errors]


class SpecificationChecks:
    """The pytest plugin: records, judges when a test has ended, and tells in the summary what was checked, or that nothing was."""

    def __init__(self, config: pytest.Config) -> None:
        self._specifications = {
            name: Specification.read(Path(path)) for name in _ROOTS if (path := config.getoption(f"--{name}-spec"))
        }
        self._taken: list[Taken] = []
        self._events: list[dict[str, Any]] = []
        if self._specifications:
            self._record()

    @staticmethod
    def add_options(parser: pytest.Parser) -> None:
        """The options by which a copy of a specification is given."""
        for name, title in _NAMES.items():
            parser.addoption(
                f"--{name}-spec", metavar="PATH", help=f"Check exchanges against this copy of {title}'s OpenAPI document."
            )

    def _record(self) -> None:
        answer, post = Carrier.__call__, Outside.post

        async def recorded(carrier: Carrier, scope: Scope, receive: Receive, send: Send) -> None:
            kind = next((value for name, value in scope.get("headers", ()) if name == b"content-type"), b"")
            query = scope.get("query_string", b"").decode("latin-1")
            taken = Taken(scope.get("method", ""), scope.get("path", ""), query, b"", kind.decode("latin-1"))
            ended = False

            async def received() -> MutableMapping[str, Any]:
                event = await receive()
                taken.request += event.get("body", b"")
                return event

            async def sent(event: MutableMapping[str, Any]) -> None:
                nonlocal ended
                taken.status = event.get("status", taken.status)
                taken.answer += event.get("body", b"")
                ended = event["type"] == "http.response.body" and not event.get("more_body")
                await send(event)

            await answer(carrier, scope, received, sent)
            if ended:
                self._taken.append(taken)

        async def posted(outside: Outside, url: str, headers: dict[str, str], body: bytes, **times: float) -> Answer:
            if body and headers["Content-Type"].startswith("application/json"):
                self._events.append(json.loads(body))
            return await post(outside, url, headers, body, **times)

        Carrier.__call__ = recorded  # type: ignore[method-assign,assignment]  # it looks on, and changes nothing
        Outside.post = posted  # type: ignore[method-assign,assignment]  # likewise

    @pytest.fixture(autouse=True)
    def _as_specified(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Judge what was exchanged while the test ran."""
        self._taken.clear()
        self._events.clear()
        yield
        if request.node.get_closest_marker("off_specification"):
            return
        found: list[str] = []
        for name, specification in self._specifications.items():
            mine = [one for one in self._taken if one.path.startswith(_ROOTS[name]) and one.status < 500]
            for taken in mine:
                found += specification.differences(taken)
                found += consents_differences(taken) if name == "twilio-consents" else []
            request.node.user_properties.append((f"{name}-spec", len(mine)))
        if "ringcentral" in self._specifications:
            differences, strange = events_differences(self._specifications["ringcentral"], self._events)
            found += differences
            request.node.user_properties.append(("events-spec", len(self._events) - len(strange)))
            request.node.user_properties += [("unspecified-event", path) for path in strange]
        found = sorted({one for one in found if not any(documented.match(one) for documented in _DOCUMENTED)})
        if found:
            pytest.fail("not as specified:\n" + "\n".join(found), pytrace=False)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """How much was checked against which specification, and in one line against which nothing was."""
        counted: Counter[str] = Counter()
        strange: set[str] = set()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if getattr(report, "when", "") == "teardown":
                    counted.update({name: value for name, value in report.user_properties if name.endswith("-spec") and value})
                    strange |= {value for name, value in report.user_properties if name == "unspecified-event"}
        given = [name for name in _NAMES if name in self._specifications]
        for name in given:
            line = f"{counted[f'{name}-spec']} exchanges checked against the specification of {_NAMES[name]}"
            if name == "ringcentral":
                line += f", and {counted['events-spec']} events"
                line += f"; not judged, as nothing is specified: {', '.join(sorted(strange))}" if strange else ""
            elif name in _NO_SCHEMA:
                line += f"; not judged, as nothing is specified: {_NO_SCHEMA[name]}"
            terminalreporter.write_line(line)
        if missing := [name for name in _NAMES if name not in given]:
            options = " ".join(f"--{name}-spec PATH" for name in missing)
            titles = ", ".join(_NAMES[name] for name in missing)
            terminalreporter.write_line(f"Nothing was checked against the specification of {titles}: give {options}")
