"""schemas/asyncapi.yaml as AsyncAPI's own parser sees it, where there is Node; what can be told without is in tests/unit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.node.packages import NodeMissing, node, node_modules

HERE = Path("tests/node")


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program and its packages."""
    folder = tmp_path_factory.mktemp("asyncapi")
    try:
        node()
        (folder / "node_modules").symlink_to(node_modules(HERE / "package.json"))
    except NodeMissing as missing:
        pytest.skip(f"schemas/asyncapi.yaml was not given to AsyncAPI's parser: {missing}")
    shutil.copy(HERE / "asyncapi.mjs", folder)
    return folder


def told(parser: Path, file: Path) -> Any:
    done = subprocess.run(
        [node(), str(parser / "asyncapi.mjs"), str(file.absolute())], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_parser_has_nothing_against_it(parser: Path) -> None:
    found = told(parser, Path("schemas/asyncapi.yaml"))
    assert found["errors"] == []
    assert len(found["addresses"]) == 7


def test_the_parser_sees_what_is_wrong(parser: Path, tmp_path: Path) -> None:
    shutil.copytree("schemas", tmp_path / "schemas")
    file = tmp_path / "schemas" / "asyncapi.yaml"
    wrong = (
        file.read_text(encoding="utf-8").replace("action: send", "action: tell", 1).replace("partitions: 6", "partitions: six", 1)
    )
    file.write_text(wrong, encoding="utf-8")
    errors = "\n".join(told(parser, file)["errors"])
    assert "operations.send.status.action" in errors
    assert "channels.outbound.bindings.kafka.partitions" in errors
