"""Twilio's signature of a webhook, written from its description and not shared with the gateway's check of it."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

__all__ = ["sign"]


def sign(token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """The X-Twilio-Signature of a form POST: base64(HMAC-SHA1(token, url + every name and value)), names sorted, repeats once.

    ``url`` is without its fragment: connection overrides stand outside the signature.
    See https://www.twilio.com/docs/usage/webhooks/webhooks-security.
    """
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()
