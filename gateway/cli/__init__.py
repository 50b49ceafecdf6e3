"""The command line: one file a group of commands, each imported when it is used."""

from gateway.cli.root import main

__all__ = ["main"]
