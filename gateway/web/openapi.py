"""The API as an OpenAPI 3.1 document, its schemas made from the models. schemas/openapi.json is this, and a test holds them together."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.web.models import ClosingAnswer, ClosingRequest, OptIn, OptInAnswer, OptOut, OptOutAnswer, Problem

__all__ = ["openapi"]

_MODELS = (OptOut, OptIn, ClosingRequest, OptOutAnswer, OptInAnswer, ClosingAnswer, Problem)


def openapi() -> dict[str, Any]:
    """The document, ready for JSON."""
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SMS gateway",
            "version": "1",
            "summary": "Opt people out and in, ask what became of a message, and close a customer's account.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": {
            "/v1/opt-outs": {
                "post": _operation(
                    "optOut",
                    "Opt a person out",
                    "OptOut",
                    {
                        "200": ("In force: no request for this person and scope begins any more.", "OptOutAnswer"),
                        "202": (
                            "Written, and in force within seconds: a request that was under way has not ended yet; or once PostgreSQL is back.",
                            "OptOutAnswer",
                        ),
                    },
                ),
            },
            "/v1/opt-ins": {
                "post": _operation(
                    "optIn",
                    "Record a person's opt-in",
                    "OptIn",
                    {
                        "200": ("Recorded.", "OptInAnswer"),
                        "409": (
                            "An opt-out stands that is not provably earlier, or the account is closed; `code` says why.",
                            "Problem",
                        ),
                    },
                ),
            },
            "/v1/closings": {
                "post": _operation(
                    "close",
                    "Close a tenant's customer account; takes a token with the right close-accounts",
                    "ClosingRequest",
                    {
                        "200": ("Noted. What the policy keeps until so long after closing ends from there.", "ClosingAnswer"),
                        "409": ("A closing is noted already, or it lies too far ahead.", "Problem"),
                    },
                ),
            },
            "/v1/messages/{tenant}/{message_id}": {
                "get": {
                    **_operation(
                        "story",
                        "What became of a message",
                        None,
                        {"200": ("Its story, without personal data.", None)},
                        missing=True,
                    ),
                    "parameters": [_parameter("tenant"), _parameter("message_id")],
                },
            },
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Made by `gateway tokens create`."}},
        },
    }


def _operation(
    name: str,
    summary: str,
    body: str | None,
    answers: dict[str, tuple[str, str | None]],
    *,
    missing: bool = False,
) -> dict[str, Any]:
    refusals = {
        "401": "No token, or one that is not known.",
        "403": "The token is not for this tenant.",
        **({"404": "There is no such message."} if missing else {}),
        "405": "Another method is meant.",
        **(
            {
                "400": "Not JSON.",
                "408": "The body did not arrive in time.",
                "413": "The body is too large.",
                "415": "Not application/json.",
                "422": "A field is missing, unknown or wrong; `errors` names each.",
            }
            if body
            else {}
        ),
        "503": "Not now; `Retry-After` says when.",
    }
    responses = {status: _response(text, schema) for status, (text, schema) in answers.items()}
    responses |= {status: _response(text, "Problem") for status, text in refusals.items()}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": dict(sorted(responses.items()))}
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(body)}}}
    return operation


def _response(text: str, schema: str | None) -> dict[str, Any]:
    media = "application/problem+json" if schema == "Problem" else "application/json"
    return {"description": text, "content": {media: {"schema": _reference(schema) if schema else {"type": "object"}}}}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
