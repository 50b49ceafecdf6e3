"""What a refusal means, whoever the provider is: one rule from HTTP status and error code to outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain.outcome import Later, Outcome, Refused, Unknown
from gateway.domain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["outcome_by"]


def outcome_by(table: Mapping[str, Outcome], status: int, code: str | None, retry_after: float | None) -> Outcome:
    """What an answer to a create request means that is not a 2xx.

    ``table`` has the provider's error codes, ``code`` is the answer's, None where it names none; ``retry_after`` is in seconds. A code counts
    only in a 4xx: a server that fails may have accepted before.
    """
    name = code or f"http_{status}"
    match status:
        # 408: our request was too slow for somebody on the way. 409: something like it may be there already. Neither denies that.
        case 408 | 409:
            return Unknown(f"http_{status}")
        case 429:
            return Later(Reason.RATE_LIMITED, name, wait=retry_after, holds="account")
        # RFC 8470, section 5.2: the server did not process the request.
        case 425:
            return Later(Reason.UNREACHABLE, name, wait=retry_after, holds="account")
        case _ if not 400 <= status <= 499:
            return Unknown(f"http_{status}")
    known = table.get(code) if code is not None else None
    if known is not None:
        return known
    # These speak of credentials and addresses, never of a message, whatever their code.
    if status in {401, 404, 405}:
        return Later(Reason.CONFIGURATION, name, holds="account", operator=True)
    return Refused(Reason.REFUSED, name)
