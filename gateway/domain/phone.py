"""Telephone numbers: one normal form for each person's number, and which of them can be texted.

Nothing here remembers a number: a cache would keep personal data past its time.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType

from gateway.domain.personal import PhoneNumber

__all__ = ["BadNumber", "NumberFault", "is_toll_free", "normal_form", "normalise", "region_of"]

NumberFault = Literal[
    "missing",  # nothing was given
    "not_a_number",  # letters, an extension, or too long a text to be a number
    "no_country",  # no country code, and no default region to read it by
    "too_short",
    "too_long",
    "not_in_use",  # the numbering plan has no such number
    "fixed_line",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "pager",
    "voicemail",
    "universal_access",
]

_NOT_TEXTABLE: Final[dict[int, NumberFault]] = {
    PhoneNumberType.FIXED_LINE: "fixed_line",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.VOICEMAIL: "voicemail",
    PhoneNumberType.UAN: "universal_access",
}

_LONGEST_TEXT = 64
_WRITTEN = re.compile(r"(?:tel:)?(\+?)([0-9\s().\-/\u2010-\u2015\u2212]*)", re.IGNORECASE)
_E164 = re.compile(r"\+[1-9][0-9]{3,19}")
_NOT_DIGITS = re.compile(r"[^0-9]+")

# Old and domestic ways of writing a mobile number, each with the one form it has today. A rule takes effect only when what it makes
# is a mobile number of the numbering plan: nothing is invented.
_FOLDED: Final = {
    # +52 1 for mobiles ended in August 2019, as did the trunk prefixes 01, 044 and 045 (IFT, Plan Técnico Fundamental de Numeración).
    52: (re.compile(r"(?:1|01|044|045)(\d{10})"), r"\1"),
    # Mobile and fixed numbers share their ranges; from abroad a mobile is dialled with 9 (ENACOM). Only a mobile can be texted.
    54: (re.compile(r"([1-8]\d{9})"), r"9\1"),
    # Since 2016 every mobile number has a ninth digit, a 9 before what was 6 to 9; 70 and 77 to 79 were trunked radio and kept eight
    # (Anatel, Resolução 553/2010).
    55: (re.compile(r"([1-9]\d)([689]\d{7}|7[1-6]\d{6})"), r"\g<1>9\2"),
}

# Numbers set aside for fiction that libphonenumber holds to be unassigned. Examples, tests and demonstrations are written with them and
# nobody is reached by one: NXX-555-01XX in North America and all of area code 555, which was never assigned (NANPA);
# +44 7700 900xxx (Ofcom); +33 6 39 98 xx xx (ARCEP).
_FICTION = re.compile(r"\+1(?:[2-9]\d\d55501\d\d|555\d{7})|\+447700900\d{3}|\+3363998\d{4}")

_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_COUNTRY_CODES: Final = phonenumbers.COUNTRY_CODE_TO_REGION_CODE


@dataclass(frozen=True, slots=True)
class BadNumber:
    """Why a text is not a number that can be texted; it never holds the text."""

    why: NumberFault


def normalise(text: str, default_region: str | None = None) -> PhoneNumber | BadNumber:
    """The number in its one E.164 form, or why it cannot be texted.

    A number must be one that its country's numbering plan has, or one set aside for fiction, and its type must not be known as one
    that takes no texts. In North America fixed and mobile numbers cannot be told apart, so that both pass; so do personal numbers
    (+1 500, among them Twilio's test numbers) and VoIP. ``default_region`` (ISO 3166, such as ``GB``) reads numbers without a country
    code.
    """
    found = _read(text, default_region)
    if isinstance(found, BadNumber):
        return found
    number, kind = found
    if kind == PhoneNumberType.UNKNOWN:
        return PhoneNumber(number) if _FICTION.fullmatch(number) else BadNumber(_length_fault(number) or "not_in_use")
    why = _NOT_TEXTABLE.get(kind)
    return PhoneNumber(number) if why is None else BadNumber(why)


def normal_form(text: str, default_region: str | None = None) -> PhoneNumber | BadNumber:
    """The same E.164 form as :func:`normalise` gives, also of a number that cannot be texted or is in no numbering plan.

    For inbound texts and opt-outs: a STOP must not be lost because a list of prefixes is out of date.
    """
    found = _read(text, default_region)
    return found if isinstance(found, BadNumber) else PhoneNumber(found[0])


def region_of(number: PhoneNumber) -> str | None:
    """The region (ISO 3166) that a number belongs to; None where its country code tells none.

    A number that no numbering plan has, such as one set aside for fiction, belongs to the main region of its country code.
    """
    parsed = _split(number.reveal())
    if parsed is None:
        return None
    region = phonenumbers.region_code_for_number(parsed) or phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def is_toll_free(number: PhoneNumber) -> bool:
    """Whether the number is a toll-free one."""
    parsed = _split(number.reveal())
    return parsed is not None and phonenumbers.number_type(parsed) == PhoneNumberType.TOLL_FREE


def _read(text: str, default_region: str | None) -> tuple[str, int] | BadNumber:
    """The E.164 form and the libphonenumber type of what was written."""
    if len(text) > _LONGEST_TEXT:
        return BadNumber("not_a_number")
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
        text = "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text)
    text = text.strip()
    if not text:
        return BadNumber("missing")
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return BadNumber("not_a_number")
    plus, grouped = written.groups()
    digits = _NOT_DIGITS.sub("", grouped)
    if not digits:
        return BadNumber("not_a_number")
    if not plus and default_region is None:
        return BadNumber("no_country")
    if plus:
        # As it stands first: that is the common case, and half the cost of the library's parser.
        parsed = _split("+" + digits)
        kind = phonenumbers.number_type(parsed) if parsed is not None else PhoneNumberType.UNKNOWN
        if parsed is not None and kind != PhoneNumberType.UNKNOWN:
            return _folded(parsed, kind)
        if _FICTION.fullmatch("+" + digits):
            return "+" + digits, kind
    # Then with a national prefix taken out, as in +44 (0)20, or with the region's country code.
    found = _parse(plus + digits, default_region)
    if isinstance(found, BadNumber):
        return found
    form, kind = _folded(found, phonenumbers.number_type(found))
    if kind == PhoneNumberType.UNKNOWN and form != "+" + digits:
        return _read(form, None)  # a second national prefix, as in +1 1 1 500: a form that is read again must be itself
    return form, kind


def _split(number: str) -> phonenumbers.PhoneNumber | None:
    """An E.164 number taken apart at its country code; None where a library's parser is needed for that."""
    if not _E164.fullmatch(number):
        return None
    for length in (1, 2, 3):
        code = number[1 : 1 + length]
        rest = number[1 + length :]
        if int(code) in _COUNTRY_CODES:
            zeros = len(rest) - len(rest.lstrip("0"))
            if zeros == 0:
                return phonenumbers.PhoneNumber(country_code=int(code), national_number=int(rest))
            return phonenumbers.PhoneNumber(
                country_code=int(code),
                national_number=int(rest),
                italian_leading_zero=True,
                number_of_leading_zeros=min(zeros, len(rest) - 1),
            )
    return None


def _parse(digits: str, region: str | None) -> phonenumbers.PhoneNumber | BadNumber:
    try:
        return phonenumbers.parse(digits, region)
    except NumberParseException as error:
        kind = error.error_type
    if kind == NumberParseException.INVALID_COUNTRY_CODE:
        return BadNumber("no_country")
    if kind in {NumberParseException.TOO_SHORT_NSN, NumberParseException.TOO_SHORT_AFTER_IDD}:
        return BadNumber("too_short")
    return BadNumber("too_long" if kind == NumberParseException.TOO_LONG else "not_a_number")


def _folded(parsed: phonenumbers.PhoneNumber, kind: int) -> tuple[str, int]:
    """The E.164 form and type, with the old ways of writing of some countries folded into today's."""
    rule = _FOLDED.get(parsed.country_code or 0)
    if rule is not None:
        written, form = rule
        national = written.fullmatch(phonenumbers.national_significant_number(parsed))
        folded = _split(f"+{parsed.country_code}{national.expand(form)}") if national is not None else None
        if folded is not None and (folded_kind := phonenumbers.number_type(folded)) in _MOBILE:
            parsed, kind = folded, folded_kind
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164), kind


def _length_fault(number: str) -> NumberFault | None:
    parsed = _split(number)
    if parsed is None:
        return None
    length = phonenumbers.is_possible_number_with_reason(parsed)
    if length == phonenumbers.ValidationResult.TOO_SHORT:
        return "too_short"
    return "too_long" if length == phonenumbers.ValidationResult.TOO_LONG else None
