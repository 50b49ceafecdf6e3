"""The kinds of values that events are made of, each with its bounds. What PostgreSQL or a log could not take is refused here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, GetPydanticSchema, Strict
from pydantic_core import PydanticCustomError, core_schema

from gateway.domain.personal import MessageBody, Personal, PhoneNumber

__all__ = [
    "REVEAL",
    "Address",
    "Body",
    "HiddenText",
    "Id",
    "Moment",
    "Number",
    "Proved",
    "Received",
    "SenderName",
    "Slug",
    "Trace",
    "Written",
    "WrittenNumber",
    "ZonedMoment",
]

REVEAL: Final = object()
"""As the context of a serialisation it lets personal data out: :func:`gateway.domain.events.encode` alone uses it."""

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


@final
class WrittenNumber(Personal):
    """A number as a producer wrote it, not yet in its normal form."""

    __slots__ = ()


@final
class HiddenText(Personal):
    """Another personal detail, such as the address that an opt-in came from."""

    __slots__ = ()


def _hidden(kind: type[Personal], *, most: int, least: int = 1, pattern: str | None = None) -> GetPydanticSchema:
    """A string of ``least`` to ``most`` characters that is held as ``kind``, and shows itself in JSON only to :data:`REVEAL`."""

    def show(value: Personal, info: core_schema.SerializationInfo) -> str:
        return value.reveal() if info.context is REVEAL else str(value)

    def schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
        text = core_schema.str_schema(min_length=least, max_length=most, pattern=pattern, strict=True)
        held = core_schema.no_info_after_validator_function(kind, text)
        return core_schema.json_or_python_schema(
            json_schema=held,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(kind), held]),
            serialization=core_schema.plain_serializer_function_ser_schema(show, info_arg=True, return_schema=text),
        )

    return GetPydanticSchema(schema)


def _written(value: object) -> object:
    """Only what a date-time looks like (RFC 3339): the library would take a string of digits for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and value[4:5] == "-"):
        return value
    raise PydanticCustomError("moment", "must be a date, a time and an offset, such as 2026-05-01T09:30:00Z")


def _moment(value: datetime) -> datetime:
    return _zoned(value).astimezone(UTC)


def _zoned(value: datetime) -> datetime:
    if not _EARLIEST <= value < _LATEST:
        raise PydanticCustomError("moment", "must lie between 1970 and 2200")
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


Written = Annotated[WrittenNumber, _hidden(WrittenNumber, most=64, least=0)]
Number = Annotated[PhoneNumber, _hidden(PhoneNumber, most=64)]
Body = Annotated[MessageBody, _hidden(MessageBody, most=1600, pattern=r"\S")]
Received = Annotated[MessageBody, _hidden(MessageBody, most=10_000, least=0)]
Proved = Annotated[HiddenText, _hidden(HiddenText, most=2000)]
Address = Annotated[HiddenText, _hidden(HiddenText, most=45)]

Moment = Annotated[AwareDatetime, Strict(False), BeforeValidator(_written), AfterValidator(_moment)]
"""A moment in UTC, to the millisecond."""
ZonedMoment = Annotated[AwareDatetime, Strict(False), BeforeValidator(_written), AfterValidator(_zoned)]
"""A moment that keeps the offset it was told with."""

Id = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
"""1 to 128 visible ASCII characters."""
Slug = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
"""Small letters, digits and inner hyphens, at most 64."""
# A number in E.164, a short code, or a provider's messaging service, in the one form that the released events have for it. Which of these an
# account can have, its settings say (``sender_fault``). Names instead of numbers are not taken: nobody can text STOP to them.
SenderName = Annotated[str, Field(pattern=r"^(?:\+[1-9][0-9]{6,14}|[0-9]{3,8}|MG[0-9a-f]{32})$")]
Trace = Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
"""A W3C ``traceparent``."""
