"""YAML 1.2 with the line of every key, so that a fault in a file is found at once.

To a YAML 1.1 reader an unquoted ``NO`` is false and ``12:00`` is 720: Norway would be no region. Such a file is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.domain.errors import PolicyError

__all__ = ["Lines", "read_yaml"]

Lines = dict[tuple[str | int, ...], int]
"""The line, counted from 1, of each key and list item, by its path from the top."""

_LONGEST: Final = 1_000_000  # characters
_MOST: Final = 20_000  # keys and items
_DIRECTIVE = re.compile(r"^%YAML\s+(?!1\.2\s*$)", re.MULTILINE)


def read_yaml(text: str, file: str) -> tuple[dict[str, Any], Lines]:
    """The one mapping that a YAML 1.2 text holds, of plain dicts, lists and scalars, with the lines of its keys.

    ``PolicyError`` names ``file`` and the line: for what is not YAML, a key that stands twice, a key that is not text, an anchor that
    holds itself, a tag, or a file that asks for another version of YAML.
    """
    if len(text) > _LONGEST:
        raise PolicyError("is longer than a million characters", file=file)
    if found := _DIRECTIVE.search(text):
        raise PolicyError("must be YAML 1.2", file=file, line=text.count("\n", 0, found.start()) + 1)
    reader = YAML(typ="rt", pure=True)
    reader.allow_duplicate_keys = False
    fault: PolicyError
    try:
        loaded = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or "is not YAML").strip().splitlines()[0]
        fault = PolicyError(what, file=file, line=mark.line + 1 if mark is not None else None)
    except (YAMLError, ValueError, RecursionError) as error:
        fault = PolicyError(f"is not YAML ({type(error).__name__})", file=file)
    else:
        if not isinstance(loaded, CommentedMap):
            raise PolicyError("must hold keys with values, such as `tenant: my-shop`", file=file)
        lines: Lines = {}
        return _plain_map(loaded, (), file, lines, 0), lines
    raise fault


def _plain_map(node: CommentedMap, path: tuple[str | int, ...], file: str, lines: Lines, depth: int) -> dict[str, Any]:
    plain = {}
    for key, value in node.items():
        line = node.lc.key(key)[0] + 1 if key in node.lc.data else node.lc.line + 1
        if not isinstance(key, str):
            raise PolicyError(
                f"the key {key!r} must be text: put it in quotes", file=file, line=line, key=".".join(map(str, path)) or None
            )
        lines[*path, key] = line
        plain[str(key)] = _plain(value, (*path, key), file, lines, depth + 1)
    return plain


def _plain(node: object, path: tuple[str | int, ...], file: str, lines: Lines, depth: int) -> object:
    if len(lines) > _MOST:
        raise PolicyError("holds too much: aliases of aliases?", file=file, line=lines[path[:1]], key=str(path[0]))
    if depth > 20:
        raise PolicyError("is nested too deeply", file=file, line=lines[path[:1]], key=str(path[0]))
    if isinstance(node, CommentedMap):
        return _plain_map(node, path, file, lines, depth)
    if isinstance(node, CommentedSeq):
        items = []
        for index, item in enumerate(node):
            lines[*path, index] = node.lc.item(index)[0] + 1
            items.append(_plain(item, (*path, index), file, lines, depth + 1))
        return items
    for plain_type in (bool, int, float, str):  # the reader's own scalar types are theirs
        if isinstance(node, plain_type):
            return plain_type(node)
    if node is None:
        return None
    raise PolicyError(
        "a tag or a date is not read here: put it in quotes", file=file, line=lines[path], key=".".join(map(str, path))
    )
