"""The settings as a document and as an example file, both made from the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.settings.loading import CONFIG_FILE_VARIABLE, environment_name, nested
from gateway.settings.model import Settings

__all__ = ["document", "example"]

_HEAD = f"""\
# Configuration

Made from `gateway/settings` by `gateway settings --document`; change the model, not this page.

Every setting has a default that works on a fresh machine. It is read once, at the start: from the environment, else from a TOML file
that `--config` or `{CONFIG_FILE_VARIABLE}` names, else the default. `gateway settings --example` prints such a file. A setting that is
wrong, unknown or missing stops the start with a line that names it; a value is never printed. An empty variable is a value, not an
absence. Relative paths begin at the working directory.

In Kubernetes set `enableServiceLinks: false`: a service called `gateway` would otherwise put variables such as
`GATEWAY_SERVICE_HOST` into the environment, and unknown ones are refused.
"""

_EXAMPLE_HEAD = f"""\
# Settings of the gateway. Name this file by --config or {CONFIG_FILE_VARIABLE}; a variable such as GATEWAY_WEB_PORT or
# GATEWAY_KAFKA__SERVERS goes before it. Each line shows the default, or an example where there is none.
"""


def document() -> str:
    """The page docs/configuration.md: each setting with its variable, default, unit and meaning."""
    pages = [_HEAD]
    for place, section in _sections(Settings):
        title = f"`{'.'.join(place)}`{' of ' + _whose(section) if _whose(section) else ''}" if place else "General"
        text = "" if section is Settings else f"{_first_line(section)}\n\n"
        rows = "\n".join(_row(place, name, field) for name, field in _plain(section))
        pages.append(f"## {title}\n\n{text}| setting | variable | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(pages)


def example() -> str:
    """A TOML file with every setting, its meaning above it, all of them commented out."""
    parts = [_EXAMPLE_HEAD]
    for place, section in _sections(Settings, alias="main"):
        if place:
            parts.append(f"# {_first_line(section)}\n# [{'.'.join(place)}]\n")
        for name, field in _plain(section):
            extra = _extra(field)
            value = field.default if extra["example"] is None else extra["example"]
            unit = f" [{extra['unit']}]" if extra["unit"] else ""
            parts.append(f"# {field.description}{unit}\n# {name} = {_toml(value)}\n")
    return "\n".join(parts)


def _sections(
    section: type[BaseModel], above: tuple[str, ...] = (), alias: str = "<alias>"
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    yield above, section
    for name, field in section.model_fields.items():
        for place, below in enumerate(nested(field.annotation)):
            of_its_own = alias if not place or alias == "<alias>" else _whose(below)  # an example can't hold one alias twice
            named = (*above, name, of_its_own) if get_origin(field.annotation) is dict else (*above, name)
            yield from _sections(below, named, alias)


def _whose(section: type[BaseModel]) -> str:
    provider = section.model_fields.get("provider")
    return str(get_args(provider.annotation)[0]) if provider is not None else ""


def _plain(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in section.model_fields.items() if not nested(field.annotation))


def _row(place: tuple[str, ...], name: str, field: FieldInfo) -> str:
    extra = _extra(field)
    if field.is_required():
        default = "required"
    elif field.default is None or name == "state_directory":
        default = "none"
    else:
        default = f"`{_toml(field.default)}`" + (f" {extra['unit']}" if extra["unit"] else "")
    return f"| `{name}` | `{environment_name((*place, name))}` | {default} | {field.description} |"


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {"unit": "", "example": None}


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _toml(value: object) -> str:
    """A value as TOML writes it; JSON's strings, numbers and booleans are TOML's too."""
    return json.dumps(str(value) if isinstance(value, Path) else "" if value is None else value, ensure_ascii=False)
