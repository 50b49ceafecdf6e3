"""The check against a specification finds what it is for; the document here is nobody's."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.specification import Specification, Taken
from tests.specification_checks import consents_differences, events_differences

MESSAGE = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}, "to": {"type": "array", "items": {"$ref": "#/components/schemas/Party"}}},
}
DOCUMENT = {
    "paths": {
        "/texts": {
            "get": {
                "parameters": [
                    {"name": "kind", "in": "query", "schema": {"type": "array", "items": {"type": "string", "enum": ["new", "old"]}}},
                    {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Message"}}}}},
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {"type": "object", "required": ["To"], "properties": {"To": {"type": "string"}, "Days": {"type": "integer"}}}
                        },
                        "application/json": {"schema": {"$ref": "#/components/schemas/Message"}},
                    },
                },
                "responses": {"204": {"description": "done"}},
            },
        },
        "/texts/{id}": {"delete": {"responses": {"204": {"description": "gone"}}}},
    },
    "components": {"schemas": {
        "Message": {"allOf": [MESSAGE, {"type": "object", "properties": {"note": {"type": "string", "nullable": True}}}]},
        "Party": {"type": "object", "properties": {"number": {"type": "string", "pattern": "^\\+"}}},
        "ParameterizedErrorResponseModel": {"type": "object", "required": ["errors"]},
    }},
}  # fmt: skip
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@pytest.mark.parametrize(
    "taken, found",
    [
        (
            Taken(
                "GET", "/texts", "kind=new&kind=old&page=2", b"", "", 200, b'{"id": 1, "note": null, "to": [{"number": "+1"}]}'
            ),
            [],
        ),
        (Taken("GET", "/texts", "", b"", "", 200, b'{"id": "1"}'), ["id: '1' is not of type 'integer'"]),
        (Taken("GET", "/texts", "", b"", "", 200, b"{}"), ["'id' is a required property"]),
        (Taken("GET", "/texts", "", b"", "", 200, b'{"id": 1, "to": [{"number": "1"}]}'), ["to.0.number: '1' does not match"]),
        (Taken("GET", "/texts", "", b"", "", 200, b'{"id": 1, "to": [{"name": "A"}]}'), [".to[].name, which is not specified"]),
        (Taken("GET", "/texts", "", b"", "", 200, b""), ["answers with nothing"]),
        (Taken("GET", "/texts", "", b"", "", 202, b"{}"), ["a status that is not among 200"]),
        (Taken("GET", "/texts", "kind=odd", b"", "", 200, b'{"id": 1}'), ["parameter kind"]),
        (Taken("GET", "/texts", "page=0", b"", "", 200, b'{"id": 1}'), ["parameter page"]),
        (Taken("GET", "/texts", "sort=up", b"", "", 200, b'{"id": 1}'), ["parameter sort is not specified"]),
        (Taken("GET", "/texts", "sort=up", b"", "", 404, b'{"errors": []}'), []),
        (Taken("GET", "/texts", "", b"", "", 404, b"{}"), ["'errors' is a required property"]),
        (Taken("POST", "/texts", "", b"To=%2B1&Days=3", FORM, 204), []),
        (Taken("POST", "/texts", "", b"Days=3", FORM, 204), ["'To' is a required property"]),
        (Taken("POST", "/texts", "", b"To=1&Days=many", FORM, 204), ["Days: 'many' is not of type 'integer'"]),
        (Taken("POST", "/texts", "", b"To=1&Color=red", FORM, 204), [".Color, which is not specified"]),
        (Taken("POST", "/texts", "", b'{"id": 1}', JSON, 204), []),
        (Taken("POST", "/texts", "", b'{"id": 1}', "text/plain", 204), ["sends text/plain"]),
        (Taken("POST", "/texts", "", b"", "", 204), ["sends no body"]),
        (Taken("DELETE", "/texts/7", "", b"", "", 204), []),
        (Taken("DELETE", "/texts/7", "", b"", "", 204, b"{}"), ["answers with a body"]),
        (Taken("DELETE", "/pictures/7", "", b"", "", 204), ["no such call"]),
        (Taken("DELETE", "/pictures/7", "", b"", "", 404), []),
    ],
)
def test_what_is_not_as_specified_is_found(taken: Taken, found: list[str]) -> None:
    differences = Specification(DOCUMENT).differences(taken)
    assert len(differences) == len(found)
    assert all(part in one for part, one in zip(found, differences, strict=True))


def test_events_are_judged_whole_or_by_their_bodies_and_others_are_named() -> None:
    schemas = {
        "MessageDetailsResponse": {"type": "object", "properties": {"id": {"type": "string"}}},
        "SmsOptRecord": {"type": "object", "required": ["to"], "properties": {"to": {"type": "string"}}},
        "MessageEvent": {"type": "object", "properties": {"event": {"type": "string"}, "body": {"type": "object"}}},
    }
    specification = Specification({"paths": {}, "components": {"schemas": schemas}})
    a2p, store, consents, other = "/x/a2p-sms/messages?direction=Inbound", "/x/message-store", "/x/sms/consents", "/x/opt-outs"

    def said(event: str, body: object) -> dict[str, object]:
        return {"event": event, "body": body}

    right = [said(a2p, {"id": "1"}), said(store, {}), said(consents, {"records": [{"to": "1"}]}), said(other, {"a": 1})]
    assert events_differences(specification, right) == ([], [other])
    wrong = [said(a2p, {"id": 1}), said(store, []), said(consents, {"records": [{"to": "1"}, {}]})]
    found, strange = events_differences(specification, wrong)
    assert [one.partition(" ")[0] for one in found] == ["MessageDetailsResponse", "MessageEvent", "SmsOptRecord"]
    assert strange == []


ITEM = {
    "contact_id": "+12025550101",
    "correlation_id": "0" * 32,
    "sender_id": "MG" + "0" * 32,
    "status": "opt-out",
    "source": "others",
    "date_of_consent": "2026-05-01T12:00:00Z",
}
ANSWER = {"correlation_id": "0" * 32, "error_code": 0, "error_messages": []}


@pytest.mark.parametrize(
    "item, answer, found",
    [
        ({}, {}, 0),
        ({"sender_id": "+12025550102"}, {}, 0),
        ({"contact_id": "12025550101"}, {}, 1),
        ({"contact_id": "12025550101"}, {"error_code": 30646, "error_messages": ["INVALID_CONTACT_ID"]}, 0),
        ({"status": "out"}, {}, 1),
        ({"date_of_consent": "yesterday"}, {}, 1),
        ({"note": "x"}, {}, 1),
        ({}, {"error_code": "0"}, 1),
        ({}, {"why": "x"}, 1),
    ],
)
def test_consents_are_as_twilios_document_says_in_words(item: dict[str, object], answer: dict[str, object], found: int) -> None:
    request = urlencode([("Items", json.dumps(ITEM | item))]).encode()
    taken = Taken("POST", "/v1/Consents/Bulk", "", request, FORM, 201, json.dumps({"items": [ANSWER | answer]}).encode())
    assert len(consents_differences(taken)) == found


def test_a_document_is_read_from_json_and_from_yaml(tmp_path: Path) -> None:
    for name, text in (("one.json", '{"paths": {}}'), ("one.yml", "paths: {}\n")):
        (tmp_path / name).write_text(text)
        assert Specification.read(tmp_path / name).document == {"paths": {}}
