"""The exact words by which people stop, start, say yes and ask for help, in the languages that the gateway answers in.

Only a whole message is a word: free wording and typing errors are not read here. A word counts whatever the tenant's languages are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from gateway.domain.personal import MessageBody

__all__ = ["LANGUAGES", "Language", "Word", "WordKind", "read"]

Language = Literal["en", "fr", "es", "de", "pt", "nb"]
WordKind = Literal["stop", "start", "yes", "help"]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

# Words that every handset's owner meets, whatever the language of the text above them: the tenant's own language answers.
_EVERYWHERE: Final[dict[WordKind, str]] = {
    "stop": "stop stopall",  # Twilio, AWS and all others; "STOP ALL" (Plivo) is folded into stopall
    "start": "start unstop",  # Twilio, AWS, RingCentral
    "yes": "yes",  # Twilio; an opt-in only where one is pending or the person has opted out
    "help": "help info",  # Twilio, Plivo, Canada
}

# Words of one language, which is the one to answer in (Canada: in the word's language).
_SPOKEN: Final[dict[Language, dict[WordKind, str]]] = {
    "en": {
        # 47 CFR 64.1200(a)(10): stop, quit, end, revoke, opt out, cancel, unsubscribe. AWS: REMOVE, TD. Plivo: UNSUB.
        "stop": "unsubscribe unsub cancel end quit revoke optout remove td",
        "start": "subscribe resume continue",  # RingCentral
    },
    "fr": {"stop": "arret desabonner", "start": "debut", "help": "aide contact"},
    "es": {"stop": "alto baja cancelar parar", "start": "inicio alta comenzar", "help": "ayuda"},
    "de": {"stop": "stopp abmelden", "help": "hilfe"},
    "pt": {"stop": "parar sair remover descadastrar", "help": "ajuda"},
    "nb": {"stop": "stopp unsub"},
}

_KIND_OF: Final[dict[str, WordKind]] = {
    word: kind
    for words in (_EVERYWHERE, *(_SPOKEN[language] for language in LANGUAGES))
    for kind, listed in words.items()
    for word in listed.split()
}
_LANGUAGES_OF: Final[dict[str, tuple[Language, ...]]] = {
    word: tuple(language for language in LANGUAGES if word in " ".join(_SPOKEN[language].values()).split()) or LANGUAGES
    for word in _KIND_OF
}

_ACCENTED: Final = {"debut": "début"}  # opt-ins that are also written with an accent

_LONGEST = 64  # characters of a message that may still be one word, quotation marks and blanks included
_AROUND = re.compile(r"^[\W_]+|[\W_]+$")  # punctuation, symbols, emoji and blanks
_QUIET = r"""[\s.!"'\u2018\u2019\u201c\u201d\u00ab\u00bb]+"""  # what may stand around an opt-in: nothing that may mean a doubt, as "?" does
_AROUND_PLAIN = re.compile(f"^{_QUIET}|{_QUIET}$")
_WITHIN = re.compile(r"[\s\-_\u2010-\u2015]+")


@dataclass(frozen=True, slots=True)
class Word:
    """What a message says: ``word`` is the known word, in the form of this module's lists; ``language`` the one to answer in."""

    kind: WordKind
    language: Language
    word: str


def read(text: MessageBody, languages: Sequence[Language] = LANGUAGES) -> Word | None:
    """The word that a message is, or None when it is anything else.

    Case, accents, blanks, and punctuation around it do not matter; within a stop, blanks and hyphens do not either (``OPT-OUT``,
    ``STOP ALL``). An opt-in is never guessed: ``ALTA`` and ``ALTO`` differ by one letter, so that a start, or a yes, is taken only as
    it stands. ``languages`` are the tenant's, its first first: of a word that several languages have, it decides which answers.
    """
    said = text.reveal().strip()
    if not said or len(said) > _LONGEST:
        return None
    plain = _folded(said)
    word = _WITHIN.sub("", _AROUND.sub("", plain))
    kind = _KIND_OF.get(word)
    if kind is None or (kind in {"start", "yes"} and not _is_exactly(said, word)):
        return None
    spoken = _LANGUAGES_OF[word]
    return Word(kind, next((language for language in languages if language in spoken), spoken[0]), word)


def _is_exactly(said: str, word: str) -> bool:
    """Whether a message is the word as it is written, accents included: a ``résumé`` is no ``RESUME``."""
    written = _AROUND_PLAIN.sub("", unicodedata.normalize("NFKC", said).casefold())
    return written in {word, _ACCENTED.get(word)}


def _folded(said: str) -> str:
    """Without case, accents and what cannot be seen; wide and styled letters as plain ones."""
    if said.isascii():
        return said.casefold()
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", said).casefold())
    return "".join(c for c in apart if unicodedata.category(c) not in {"Mn", "Me", "Cf"})
