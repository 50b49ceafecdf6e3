"""The tenants' policy files: each with its overlay, if it has one, and where each of its keys stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policies, Policy, make_policy
from gateway.domain.policy_keys import NEEDED, unset
from gateway.domain.policy_overlay import Place, Places, laid_over, refuse_loosening
from gateway.domain.yaml12 import read_yaml

__all__ = ["PolicyFile", "find_policies", "load_policies", "read_policy"]

_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_OVERLAY: Final = ".overlay"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A tenant's policy, what its file and overlay say together, and where."""

    policy: Policy
    content: Mapping[str, Any]
    places: Places = field(repr=False)

    def place(self, key: str) -> Place | None:
        """The file and line of a dotted key; None when it is not said."""
        return self.places.get(tuple(int(step) if step.isdecimal() else step for step in key.split(".")))

    def refuse_unknown_calendar(self) -> None:
        """PolicyError for a calendar whose holidays nobody knows. It is asked for apart, as the answer costs a third of a second."""
        try:
            _ = self.policy.business_days
        except ValueError as error:
            file, line = self.places["calendar",]
            raise PolicyError(str(error), file=file, line=line, key="calendar") from None

    def refuse_unset(self) -> None:
        """PolicyError for a key that is UNSET although something needs it that runs."""
        missing = [key for key in unset(self.content) if key in NEEDED]
        if missing:
            file, line = self.places[tuple(missing[0].split("."))]
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            what = f"is UNSET, and {NEEDED[missing[0]]}: fill it in {self.policy.tenant}{_OVERLAY}.yaml, or set enabled to false"
            raise PolicyError(what + more, file=file, line=line, key=missing[0])


def load_policies(directory: Path) -> Policies:
    """The policies of the enabled tenants of a directory: one ``*.yaml`` each, with its ``*.overlay.yaml``.

    ``PolicyError`` at the first fault, with file, line and key, when no tenant is enabled, and when an enabled one leaves UNSET what
    something needs that runs.
    """
    files = find_policies(directory)
    live = [one for one in files if one.policy.enabled]
    for one in live:
        one.refuse_unset()
        one.refuse_unknown_calendar()
    enabled = [one.policy for one in live]
    if not enabled:
        raise PolicyError("holds no policy that is enabled", file=str(directory))
    return Policies(enabled, [one.policy for one in files if not one.policy.enabled])


def find_policies(path: Path) -> list[PolicyFile]:
    """Every policy of a directory, or the one of a file, enabled or not, whatever is UNSET. ``PolicyError`` at the first fault."""
    if path.is_dir():
        try:
            files = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES and not one.name.startswith("."))
        except OSError as error:
            raise PolicyError(f"cannot be read ({error.strerror})", file=str(path)) from None
    elif path.stem.endswith(_OVERLAY):
        raise PolicyError("is an overlay: name the policy that it lies over", file=str(path))
    else:
        files = [path, *(path.with_name(f"{path.stem}{_OVERLAY}{suffix}") for suffix in sorted(_SUFFIXES))]
        files = [files[0], *(one for one in files[1:] if one.exists())]
    overlays = _overlays(one for one in files if one.stem.endswith(_OVERLAY))
    found: dict[str, PolicyFile] = {}
    for one in files:
        if one.stem.endswith(_OVERLAY):
            continue
        read = _read(_text(one), str(one), overlays.pop(one.stem, None))
        tenant = read.policy.tenant
        if tenant != one.stem:
            raise PolicyError(f"must be the file's name, {one.stem}", file=str(one), key="tenant")
        if tenant in found:
            raise PolicyError("has another file beside it for the same tenant", file=str(one), key="tenant")
        found[tenant] = read
    for tenant, overlay in overlays.items():
        raise PolicyError(f"lies over no policy: there is no {tenant}.yaml beside it", file=str(overlay))
    if not found:
        raise PolicyError("holds no policy: a file a tenant, such as my-shop.yaml, is needed", file=str(path))
    return list(found.values())


def read_policy(text: str, file: str) -> Policy:
    """One policy from the YAML of its file. ``PolicyError`` names ``file``, the line and the key."""
    return _read(text, file, None).policy


def _overlays(files: Iterable[Path]) -> dict[str, Path]:
    """The overlays by tenant."""
    found: dict[str, Path] = {}
    for one in files:
        tenant = one.stem.removesuffix(_OVERLAY)
        if tenant in found:
            raise PolicyError("has another file beside it for the same tenant", file=str(one))
        found[tenant] = one
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"cannot be read ({error.strerror})", file=str(path)) from None
    except UnicodeDecodeError:
        raise PolicyError("is not UTF-8", file=str(path)) from None


def _read(text: str, file: str, overlay: Path | None) -> PolicyFile:
    content, lines = read_yaml(text, file)
    places: Places = {path: (file, line) for path, line in lines.items()}
    policy = _made(content, places, file)
    if overlay is None:
        return PolicyFile(policy, content, places)
    over, lines = read_yaml(_text(overlay), str(overlay))
    both, both_places = laid_over(content, places, over, {path: (str(overlay), line) for path, line in lines.items()})
    together = PolicyFile(_made(both, both_places, str(overlay)), both, both_places)
    together.refuse_unknown_calendar()
    refuse_loosening(policy, content, together.policy, both, both_places)
    return together


def _made(content: Mapping[str, Any], places: Places, file: str) -> Policy:
    try:
        return make_policy(content)
    except ValidationError as error:
        fault = _first_fault(error, places, file)
    raise fault


def _first_fault(error: ValidationError, places: Places, file: str) -> PolicyError:
    """The fault that stands first in the file, or in that of the overlay when all are there."""
    faults = []
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    for entry in entries:
        inside = len(entry["loc"])
        if entry["type"] == "too_short" and any(other["loc"][:inside] == entry["loc"] for other in entries if other is not entry):
            continue  # the library counts only the good items of a list
        path = tuple(step for step in entry["loc"] if step != "[key]")
        known = path
        while known and known not in places:
            known = known[:-1]
        what = {
            "missing": "is missing",
            "extra_forbidden": "is no key of a policy",
            "string_type": "must be text: put it in quotes",
        }.get(entry["type"], entry["msg"].removeprefix("Value error, "))
        place, line = places.get(known, (file, 1))
        faults.append((place == file, line, ".".join(map(str, path)), what, place))
    _, line, key, what, place = min(faults)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return PolicyError(what + more, file=place, line=line, key=key or None)
