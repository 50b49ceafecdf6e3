"""What there is to say of a policy before it is live: every value with its place, and what somebody should know."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.domain.policy_files import PolicyFile
from gateway.domain.policy_keys import ENFORCED, IN_PART, NEEDED, said, stated, unset
from gateway.domain.policy_retention import CLASSES
from gateway.domain.retention import UNSET, Duration

__all__ = ["Note", "Value", "leaves", "notes", "values"]

Held = Literal["enforced", "enforced in part", "stated", "UNSET"]

_FOLLOWS: Final[Mapping[str, str]] = {
    "address": "follows content",
    "dead_letters": "follows content, 30d at most",
    "exports": "follows content, 7d at most",
    "suppression": "always",
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a policy; ``source`` is its file and line, or why there is one without."""

    key: str
    value: str
    source: str
    held: Held


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody should know before the tenant is live."""

    what: Literal["UNSET", "not built", "for ever", "enforced in part", "stated, not enforced"]
    key: str
    source: str
    more: str = ""


def leaves(content: Mapping[str, Any]) -> dict[str, str]:
    """Every value by its dotted key; a list of plain values is one."""
    return dict(_leaves(content, ""))


def _leaves(node: object, key: str) -> Iterator[tuple[str, str]]:
    inside: Mapping[Any, object] = {}
    if isinstance(node, Mapping):
        inside = node
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        inside = dict(enumerate(node))
    if not inside:
        yield key, node if isinstance(node, str) else ", ".join(map(str, node)) if isinstance(node, list) else json.dumps(node)
    for name, item in inside.items():
        yield from _leaves(item, f"{key}.{name}" if key else str(name))


def values(file: PolicyFile) -> list[Value]:
    """What the policy says, with its overlay, in the files' order; then what follows where it says nothing."""
    policy = file.policy
    found = [Value(key, value, _source(file, key), _held(key, value)) for key, value in leaves(file.content).items()]
    known = set(said(file.content))
    left = {
        "enabled": json.dumps(policy.enabled),
        "languages": ", ".join(policy.languages),
        "opt_out.scope": str(policy.opt_out.scope),
        "rights.answer": str(policy.rights.answer),
        **{f"retention.{data_class}": str(policy.retention.of(data_class)) for data_class in CLASSES},
    }
    for key, value in left.items():
        if key not in known:
            found.append(Value(key, value, _FOLLOWS.get(key.removeprefix("retention."), "default"), _held(key, value)))
    return found


def notes(file: PolicyFile, built: Collection[str]) -> list[Note]:
    """What is UNSET, which providers are not built, what is kept for ever, and what is not or not wholly enforced."""
    found = [
        Note("UNSET", key, _source(file, key), NEEDED.get(key, "nothing that runs needs it yet")) for key in unset(file.content)
    ]
    for index, provider in enumerate(file.policy.providers):
        if provider not in built:
            found.append(Note("not built", f"providers.{index}", _source(file, f"providers.{index}"), provider))
    for data_class in CLASSES:
        kept, key = file.policy.retention.of(data_class), f"retention.{data_class}"
        if isinstance(kept, Duration) and kept.forever and file.place(key) is not None:
            found.append(Note("for ever", key, _source(file, key), kept.reason))
    partly = [key for key in said(file.content) if _held(key, "") == "enforced in part" and key not in unset(file.content)]
    found += (Note("enforced in part", key, _source(file, key), ENFORCED[key]) for key in partly)
    return [*found, *(Note("stated, not enforced", key, _source(file, key)) for key in stated(file.content))]


def _held(key: str, value: str) -> Held:
    if value == UNSET.value:
        return "UNSET"
    parts = key.split(".")
    if ".".join(parts[:2]) in IN_PART:
        return "enforced in part"
    return "enforced" if parts[0] in ENFORCED or ".".join(parts[:2]) in ENFORCED or key == "retention.suppression" else "stated"


def _source(file: PolicyFile, key: str) -> str:
    place = file.place(key)
    return f"{place[0]}:{place[1]}" if place is not None else "-"
