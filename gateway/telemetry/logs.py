"""Structured logs: one line an entry, in JSON or for a terminal, in UTC, without personal data.

What libraries log through the standard library comes out the same way, without its arguments: theirs may be anything.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from gateway.telemetry.redaction import describe_exception, hide_numbers, hide_personal

__all__ = ["configure_logging", "get_logger", "handle_loop_exception"]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module. An entry is a name in words and fields: ``logger.info("worker started", worker=3)``."""
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)  # bound when it is first used, after the set-up
    return logger


def configure_logging(level: Level = "info", form: Format = "auto", stream: TextIO | None = None) -> None:
    """Sets up the process's logs, once, at the start; ``stream`` is standard error unless given.

    Exceptions that nobody caught, in the main thread or another, are logged too; an event loop needs
    :func:`handle_loop_exception` as its handler.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_personal_data,
            _for_terminal(colours=out.isatty()) if console else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries()]
    # Libraries tell of their own doings at info; what an operator needs of them begins at warning.
    root.setLevel(max(_LEVELS[level], logging.WARNING) if level != "debug" else logging.INFO)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def handle_loop_exception(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:  # noqa: ARG001 -- asyncio's signature
    """For ``loop.set_exception_handler``: asyncio's own prints the exception, and with it whatever that holds."""
    fault = context.get("exception")
    entry = hide_numbers(str(context.get("message", "unhandled exception in the event loop"))).partition("\n")[0]
    get_logger("asyncio").error(entry, exc_info=fault if isinstance(fault, BaseException) else None)


def _without_personal_data(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Hides personal data in every field, and turns exceptions into where they came from."""
    fault = entry.pop("exc_info", None)
    entry.pop("stack_info", None)
    if fault is True:
        fault = sys.exc_info()[1]
    elif isinstance(fault, tuple):
        fault = fault[1]
    entry["logger"] = entry.pop("logger_name", "")
    shown: EventDict = {key: hide_personal(value) for key, value in entry.items()}
    if isinstance(fault, BaseException):
        shown.update(describe_exception(fault))
    return shown


def _as_json(_logger: WrappedLogger, _method: str, entry: EventDict) -> str:
    first = {key: entry.pop(key) for key in ("timestamp", "level", "logger", "event") if key in entry}
    return json.dumps({**first, **entry}, ensure_ascii=False, separators=(",", ":"))


def _for_terminal(*, colours: bool) -> Callable[[WrappedLogger, str, EventDict], str]:
    render = structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False)

    def for_terminal(logger: WrappedLogger, method: str, entry: EventDict) -> str:
        return str(render(logger, method, entry))

    return for_terminal


class _Hidden:
    """Stands for a library's argument in its message."""

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__


class _FromLibraries(logging.Handler):
    """Writes a library's log entry as one of ours: the first line of its message, with numbers for its only arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger(logger_name=record.name, line=f"{record.module}:{record.lineno}").log(
                record.levelno,
                _message(record),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 -- a log entry never breaks what it tells of, and logging's own report shows arguments
            return


def _message(record: logging.LogRecord) -> str:
    template = str(record.msg)
    arguments: Any = record.args
    if isinstance(arguments, Mapping):
        arguments = {key: _shown(value) for key, value in arguments.items()}
    elif arguments:
        arguments = tuple(map(_shown, arguments))
    try:
        text = template % arguments if arguments else template
    except (TypeError, ValueError, KeyError):
        text = template
    return text.partition("\n")[0]


def _shown(value: object) -> object:
    return value if isinstance(value, bool | int | float) else _Hidden()


def _uncaught(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:  # noqa: ARG001 -- sys.excepthook's signature
    if isinstance(fault, KeyboardInterrupt):
        return
    get_logger("gateway").critical("uncaught exception", exc_info=fault)


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        get_logger("gateway").critical("uncaught exception in a thread", exc_info=arguments.exc_value)
