"""An overlay: what an installation adds to a tenant's policy. It fills in and tightens; it never loosens what the policy promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.domain.consent import Scope
from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policy
from gateway.domain.policy_retention import CLASSES, RetentionClass
from gateway.domain.retention import UNSET, Calendar, Duration, Unset, deadline

__all__ = ["Place", "Places", "laid_over", "refuse_loosening"]

Place = tuple[str, int]
"""A file, and a line of it counted from 1."""

Path = tuple[str | int, ...]
Places = dict[Path, Place]

_WIDTH: Final = tuple(Scope)  # from narrow to wide
_FOLLOWERS: Final = ("address", "dead_letters", "exports")  # left out, they follow content
# Eight years hold every length of a month beside every other, and a leap day: what is no longer on any of these days never is.
_DAYS: Final = tuple(datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=day) for day in range(8 * 365 + 2))
_MUCH_LATER: Final = timedelta(days=200 * 365)


def laid_over(
    base: Mapping[str, Any], places: Places, over: Mapping[str, Any], over_places: Places
) -> tuple[dict[str, Any], Places]:
    """Both together: sections key by key, all else as the overlay has it. ``PolicyError`` for what no overlay may say."""
    for path, value in _each(over, ()):
        if path == ("tenant",):
            raise _fault("must be left out: an overlay is its file's name's", over_places, path)
        if value == UNSET.value:
            raise _fault("cannot be UNSET: an overlay fills in", over_places, path)
    both, together = dict(base), dict(places)
    _lay(both, together, over, over_places, ())
    return both, together


def _lay(both: dict[str, Any], together: Places, over: Mapping[str, Any], over_places: Places, path: Path) -> None:
    for key, value in over.items():
        here = (*path, key)
        known = both.get(key)
        if isinstance(known, dict) and isinstance(value, dict) and "forever" not in (*known, *value):
            both[key] = dict(known)
            _lay(both[key], together, value, over_places, here)
            continue
        for old in [one for one in together if one[: len(here)] == here]:
            del together[old]
        together.update({one: place for one, place in over_places.items() if one[: len(here)] == here})
        both[key] = value


def _each(node: object, path: Path) -> Iterator[tuple[Path, object]]:
    yield path, node
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        yield from _each(value, (*path, key))


def refuse_loosening(
    policy: Policy, content: Mapping[str, Any], together: Policy, both: Mapping[str, Any], places: Places
) -> None:
    """``PolicyError`` where an overlay keeps longer, answers later, reaches further or promises other than the policy it lies over."""
    calendar = together.business_days
    for data_class in CLASSES:
        limit, now = _limit(policy, content, data_class), together.retention.of(data_class)
        if limit is not None and _looser(limit, now, calendar):
            which = "shorter" if limit.longest else "longer"
            # What follows from another key stands at that key's place.
            place = ("retention", data_class if ("retention", data_class) in places else "content")
            raise _fault(f"may not be {which} than the policy's {limit}", places, place)
    copies = content.get("retention", {}).get("provider_copies")
    if copies == "must_end" and together.retention.provider_copies != "must_end":
        raise _fault("may not be other than the policy's must_end", places, ("retention", "provider_copies"))
    answer = policy.rights.answer if "answer" in content.get("rights", {}) else UNSET
    if isinstance(answer, Duration) and _looser(answer, together.rights.answer, calendar):
        raise _fault(f"may not be later than the policy's {answer}", places, ("rights", "answer"))
    for section, key in (("", "calendar"), ("rights", "counted_from"), ("rights", "kinds")):
        before, after = (said.get(section, {}) if section else said for said in (content, both))
        if key in before and before[key] != after[key]:
            raise _fault("may not be another than the policy's", places, (section, key) if section else (key,))
    for key in ("providers", "regions"):
        before = content.get(key)
        if isinstance(before, list) and (more := [one for one in both[key] if one not in before]):
            raise _fault(f"may not add {more[0]} to those of the policy", places, (key,))
    if "scope" in content.get("opt_out", {}) and _WIDTH.index(together.opt_out.scope) < _WIDTH.index(policy.opt_out.scope):
        raise _fault(f"may not be narrower than the policy's {policy.opt_out.scope}", places, ("opt_out", "scope"))
    for key, value in content.get("notice", {}).items():
        if both["notice"][key] != value:
            raise _fault("is what the notice says, and no overlay changes it", places, ("notice", key))


def _limit(policy: Policy, content: Mapping[str, Any], data_class: RetentionClass) -> Duration | None:
    """What the policy promises for a class; None when it leaves that open or says nothing."""
    said = content.get("retention", {})
    if data_class in said or (data_class in _FOLLOWERS and "content" in said):
        found = policy.retention.of(data_class if data_class in said else "content")
        return found if isinstance(found, Duration) else None
    return None


def _looser(limit: Duration, now: Duration | Unset, calendar: Calendar | None) -> bool:
    """Whether there is a day on which ``now`` ends later than ``limit``; earlier, for what the longest holds of."""
    if now == limit or not isinstance(now, Duration):
        return False
    closings = any(span.closing for span in (*limit.spans, *now.spans))
    for day in _DAYS:
        for closed in (day, day + _MUCH_LATER, None) if closings else (None,):
            before, after = (deadline(day, one, calendar, closed=closed) for one in (limit, now))
            shorter, longer = (after, before) if limit.longest else (before, after)
            if shorter is not None and (longer is None or longer > shorter):
                return True
    return False


def _fault(what: str, places: Places, path: Path) -> PolicyError:
    known = path
    while known not in places:
        known = known[:-1]
    file, line = places[known]
    return PolicyError(what, file=file, line=line, key=".".join(map(str, path)))
