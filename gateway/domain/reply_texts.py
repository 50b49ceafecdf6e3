"""What the gateway answers to STOP, START and HELP when a programme has no texts of its own.

Written in the letters of GSM 03.38, so that an answer is seldom more than two parts. The confirmation of a STOP holds no marketing and asks
nothing (47 CFR 64.1200(a)(12)); that of a START names the sender, a contact, the frequency, possible charges and how to stop (CTIA
Messaging Principles 5.1.3).
"""

from __future__ import annotations

import string
from typing import Final

from gateway.domain.words import Language

__all__ = ["fill", "help_text", "start_text", "stop_text", "template_fault"]

_STOP: Final[dict[Language, str]] = {
    "en": "{name}: you are unsubscribed and will get no more messages. Reply START to subscribe again.",
    "fr": "{name} : désabonnement confirmé, vous ne recevrez plus de messages. Répondez START pour vous réabonner.",
    "es": "{name}: baja confirmada, no le enviaremos otros mensajes. Responda START para recibirlos de nuevo.",
    "de": "{name}: Sie sind abgemeldet und erhalten keine Nachrichten mehr. Antworten Sie START, um sich wieder anzumelden.",
    "pt": "{name}: cancelamento confirmado, nada mais lhe enviaremos. Responda START para voltar a receber mensagens.",
    "nb": "{name}: du er meldt av og får ikke flere meldinger. Svar START for å melde deg på igjen.",
}
_START: Final[dict[Language, str]] = {
    "en": "{name}: you are subscribed again. Msg frequency varies. Msg & data rates may apply. Help: {contact}. Reply STOP to unsubscribe.",
    "fr": "{name} : abonnement repris. Fréquence variable, frais possibles. Aide : {contact}. Répondez STOP pour vous désabonner.",
    "es": "{name}: alta confirmada. Frecuencia variable; pueden aplicarse tarifas. Ayuda: {contact}. Responda STOP para la baja.",
    "de": "{name}: Sie sind wieder angemeldet. Häufigkeit wechselt, Kosten sind möglich. Hilfe: {contact}. Abmelden mit STOP.",
    "pt": "{name}: cadastro confirmado. A quantidade de mensagens varia; podem aplicar-se tarifas. Ajuda: {contact}. Responda STOP para sair.",
    "nb": "{name}: du er meldt på igjen. Antall meldinger varierer, takster kan gjelde. Hjelp: {contact}. Svar STOP for å melde deg av.",
}
_HELP: Final[dict[Language, str]] = {
    "en": "{name}: for help, contact {contact}. Msg & data rates may apply. Reply STOP to unsubscribe.",
    "fr": "{name} : pour toute aide, contactez {contact}. Frais possibles. Répondez STOP pour vous désabonner.",
    "es": "{name}: para ayuda, contacte con {contact}. Pueden aplicarse tarifas. Responda STOP para la baja.",
    "de": "{name}: Hilfe erhalten Sie unter {contact}. Kosten sind möglich. Abmelden mit STOP.",
    "pt": "{name}: para ajuda, contacte {contact}. Podem aplicar-se tarifas. Responda STOP para sair.",
    "nb": "{name}: for hjelp, kontakt {contact}. Takster kan gjelde. Svar STOP for å melde deg av.",
}

_FIELDS: Final = frozenset({"name", "contact"})


def stop_text(language: Language, name: str) -> str:
    """The one confirmation of a STOP, with the sender's name in it."""
    return fill(_STOP[language], name)


def start_text(language: Language, name: str, contact: str) -> str:
    """The confirmation of a START."""
    return fill(_START[language], name, contact)


def help_text(language: Language, name: str, contact: str) -> str:
    """The answer to HELP."""
    return fill(_HELP[language], name, contact)


def fill(template: str, name: str, contact: str = "") -> str:
    """A template with its ``{name}`` and ``{contact}`` put in. ``ValueError`` when the name, or what comes out, would be empty."""
    if not name.strip():
        raise ValueError("a reply needs the sender's name")
    text = template.format(name=name, contact=contact).strip()
    if not text:
        raise ValueError("a reply needs a text")
    return text


def template_fault(template: str) -> str | None:
    """What is wrong with a template that a policy gives; None when nothing is."""
    if not template.strip():
        return "must not be empty"
    try:
        fields = {
            (field, spec, conversion) for _, field, spec, conversion in string.Formatter().parse(template) if field is not None
        }
    except ValueError:
        return "has a brace without its counterpart; a brace itself is written twice"
    if any(field not in _FIELDS or spec or conversion for field, spec, conversion in fields):
        return "may hold {name} and {contact} and no other braces"
    if not any(field == "name" for field, _, _ in fields):
        return "must hold {name}: who writes must be seen"
    return None
