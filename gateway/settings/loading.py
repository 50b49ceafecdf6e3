"""Reads the settings once. What is wrong, unknown or missing is named, all of it at once; a value is never shown.

pydantic-settings passes over unknown environment names and a file that is not there: both are checked here.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError as UnreadableSource

from gateway.domain.errors import SettingsError
from gateway.providers.names import PROVIDERS
from gateway.settings.model import ENVIRONMENT_DELIMITER, ENVIRONMENT_PREFIX, Settings

__all__ = ["CONFIG_FILE_VARIABLE", "environment_name", "load", "nested"]

CONFIG_FILE_VARIABLE = "GATEWAY_CONFIG_FILE"

Place = tuple[str, ...]

_FRIENDLIER = {
    "extra_forbidden": "is unknown",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "model_type": "must be a section with settings of its own",
    "dict_type": "must be a section with settings of its own",
}

# Docker links and Kubernetes services name variables after a service that is called "gateway".
_SERVICE_LINK = re.compile(r"GATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def load(environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """The settings from the environment's ``GATEWAY_`` variables over a TOML file, over the defaults.

    ``config_file`` goes before the one that ``GATEWAY_CONFIG_FILE`` names. Raises :class:`SettingsError`.
    """
    named = environ.get(CONFIG_FILE_VARIABLE)
    if named == "" and config_file is None:
        raise SettingsError(f"settings: {CONFIG_FILE_VARIABLE} is empty")
    file = config_file or (Path(named) if named is not None else None)
    from_file = {} if file is None else _read_toml(file)
    variables = {
        name.upper(): value
        for name, value in environ.items()
        if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() != CONFIG_FILE_VARIABLE
    }
    wrong = [*_unknown_variables(variables), *(_unknown_keys(from_file, file) if file else [])]
    settings: Settings | None = None
    try:
        values = _merged(_without_unknown(from_file), _read_environment(variables))
        values.setdefault("state_directory", _state_directory(environ))
        settings = Settings(**values)
    except UnreadableSource as fault:
        field = re.search(r'field "(\w+)"', str(fault))
        wrong.append(f"{environment_name((field[1] if field else '…',))} is not JSON: set the values below it one by one")
    except ValidationError as fault:
        wrong += [
            _explain(error["type"], error["msg"], tuple(map(str, error["loc"])), variables, from_file, file)
            for error in fault.errors()
        ]
    if wrong or settings is None:
        # Not chained: a validation error knows the values.
        raise SettingsError("settings: " + "; ".join(dict.fromkeys(wrong))) from None
    return settings


def environment_name(place: Place) -> str:
    """The environment variable that sets what is at a place, such as ``GATEWAY_KAFKA__SERVERS``."""
    return ENVIRONMENT_PREFIX + ENVIRONMENT_DELIMITER.join(place).upper()


def nested(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The section that a field holds (a mapping's values, too), each that it may be; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is dict:
        return nested(get_args(annotation)[1])
    if get_origin(annotation) is Annotated:
        return nested(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return tuple(found for part in get_args(annotation) for found in nested(part))
    return ()


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"settings: the file {file} is not there") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"settings: the file {file} can't be read ({type(fault).__name__})") from None
    except tomllib.TOMLDecodeError as fault:  # its text may quote the file
        line = re.search(r"at line (\d+)", str(fault))
        raise SettingsError(f"settings: {file}{':' + line[1] if line else ''} is not TOML") from None


def _read_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in variables.items() if _is_known(_place(name))}
    return source()


def _state_directory(environ: Mapping[str, str]) -> Path:
    """By the XDG base directory specification, which has relative paths ignored."""
    if (state := environ.get("XDG_STATE_HOME")) and Path(state).is_absolute():
        return Path(state) / "sms-gateway"
    if (home := environ.get("HOME")) and Path(home).is_absolute():
        return Path(home) / ".local" / "state" / "sms-gateway"
    return Path(".gateway")


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _place(variable: str) -> Place:
    return tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split(ENVIRONMENT_DELIMITER))


def _is_known(place: Place, section: type[BaseModel] = Settings) -> bool:
    name, *rest = place
    if name not in section.model_fields:
        return False
    annotation = section.model_fields[name].annotation
    if rest and get_origin(annotation) is dict:
        rest = rest[1:]  # the alias
    if not rest:
        return True
    return any(_is_known(tuple(rest), below) for below in nested(annotation))


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    known = [environment_name(place) for place in _places(Settings)]
    for name in sorted(variables):
        if not _is_known(_place(name)):
            if _SERVICE_LINK.fullmatch(name):
                yield f"{name} is unknown (set by Kubernetes or Docker for a service called gateway? turn service links off)"
            else:
                yield f"{name} is unknown{_did_you_mean(name, known)}"


def _places(section: type[BaseModel], above: Place = ()) -> Iterator[Place]:
    for name, field in section.model_fields.items():
        below = nested(field.annotation)
        if not below:
            yield (*above, name)
        for one in below:
            yield from _places(one, (*above, name, "main") if get_origin(field.annotation) is dict else (*above, name))


def _leaves(values: Mapping[str, Any], above: Place = ()) -> Iterator[Place]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value and _is_known((*above, key)):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _unknown_keys(values: Mapping[str, Any], file: Path) -> Iterator[str]:
    known = [".".join(place) for place in _places(Settings)]
    for place in _leaves(values):
        if not _is_known(place):
            name = ".".join(place)
            yield f"{name} in {file} is unknown{_did_you_mean(name, known)}"


def _without_unknown(values: Mapping[str, Any], above: Place = ()) -> dict[str, Any]:
    return {
        key: _without_unknown(value, (*above, key)) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if _is_known((*above, key))
    }


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def _explain(
    kind: str, message: str, place: Place, variables: Mapping[str, str], from_file: Mapping[str, Any], file: Path | None
) -> str:
    if place[:1] == ("accounts",) and place[2:3] and place[2] in PROVIDERS:
        place = (*place[:2], *place[3:])  # the library names which section it took it for
    if place and place[-1] == "[key]":
        place, message = place[:-1], "must be a small letter, then small letters, digits, - and single _, at most 32 in all"
    text = _FRIENDLIER.get(kind, message.removeprefix("Value error, "))
    text = text[:1].lower() + text[1:]
    variable = environment_name(place)
    if not place:
        return text
    if kind == "missing":
        return f"{'.'.join(place)} is missing (set {variable})"
    if variable in variables:
        return f"{variable}: {text}"
    where = f" in {file}" if file and _holds(from_file, place) else ""
    return f"{'.'.join(place)}{where}: {text}"


def _holds(values: object, place: Place) -> bool:
    for key in place:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
