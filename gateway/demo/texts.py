"""What the two tenants write: templates with the names, books, appointments and codes that go into them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["write"]

_TEXTS: Final[Mapping[str, Sequence[str]]] = {
    "offers": (
        "Harbour Books: {name}, {title} by {author} is out today. First 50 copies signed, ask for shelf {shelf}. Reply STOP to end",
        "Harbour Books: {percent}% off all cookery until {day}. Show code {code} at the till. Reply STOP to end",
        "Hi {name}, the {month} catalogue is here, and {title} leads it. Your code: {code}. STOP ends these texts",
        "Harbour Books: {author} reads from {title} on {day}, {hour}. Two seats for {name} with {code}. Reply STOP to end",
        "Rainy {day}? {title} is {price} this week at Harbour Books, code {code}. Reply STOP to end",
        "Harbour Books: buy two paperbacks, take {title} home free. Until {day}, code {code}. Reply STOP to end",
        "{name}, members shop first: the autumn sale opens {day} at {hour}. Door code {code}. Harbour Books. STOP to end",
        "Harbour Books: your wish list has moved: {title} is now {price} (code {code}). Reply STOP to end",
        "Children's hour on {day} at {hour}: {author} draws, we bring the cocoa ☕ {code}. Harbour Books, STOP to end",
        "Harbour Books: {title} won the prize, {author} is over the moon, and so is our price: {price}, {code}. STOP to end",
    ),
    "orders": (
        "Harbour Books: order {order} is packed and leaves on {day}. Thank you, {name}.",
        "Harbour Books: order {order} with {title} has left our harbour. It should be with you by {day}.",
        "Harbour Books: {title} is waiting for you at the counter until {day}. Pick-up number {order}.",
        "Harbour Books: we could not get {title} in hardback. Order {order} goes out as paperback on {day}; call us if that is not right.",
        "Harbour Books: your return {order} has arrived, {price} is on its way back to your card.",
        "{name}, the courier missed you. Order {order} is back at Harbour Books from {hour} today.",
        "Harbour Books: order {order} was delivered at {hour}. Enjoy {title}!",
        "Harbour Books: gift card {order} over {price} is ready, {name}. We have wrapped it in blue.",
        "Harbour Books: your copy of {title} is being signed by {author}; order {order} ships {day}.",
        "Harbour Books: order {order} is a little late, as {title} is being reprinted. New date: {day}. Sorry, {name}.",
    ),
    "appointments": (
        "Northside Clinic: {name}, you are booked with Dr. {doctor} on {day} at {hour}. Ref {order}.",
        "Northside Clinic: reminder of tomorrow, {hour}, with Dr. {doctor}. Please bring your card. Ref {order}.",
        "Northside Clinic: Dr. {doctor} is running 20 minutes late. Your new time is {hour}. Ref {order}.",
        "Northside Clinic: your results are in. Call us on {day} between 9 and 11 and say {order}.",
        "Northside Clinic: please eat nothing from midnight before your visit on {day}, {hour}. Ref {order}.",
        "Northside Clinic: your visit on {day} is moved to room {shelf}, third floor. Ref {order}.",
        "Northside Clinic: your repeat prescription {order} is ready at the desk from {hour}.",
        "Clinique Northside : rendez-vous confirmé avec le Dr {doctor}, {hour}, réf. {order}. À bientôt, {name}.",
        "Northside Clinic: {name}, it is six months since your check-up. Dr. {doctor} has time on {day} at {hour}. Ref {order}.",
        "Northside Clinic: Dr. {doctor} is away on {day}; Dr. Osei will see you at {hour} instead. Ref {order}.",
    ),
    "sign-in": (
        "{code} is your Northside Clinic sign-in code. It works for 5 minutes. We never ask you for it.",
        "Northside Clinic: {code} signs you in at the patient portal. Not you? Ignore this text.",
        "Your code for Northside Clinic is {code}. Don't share it with anyone.",
        "{code} - use this to confirm your new address at Northside Clinic.",
        "Northside Clinic: a new phone has signed in. If it was not yours, call us and say {code}.",
        "Code Northside : {code}. Valable cinq minutes, ne le partagez avec personne.",
    ),
}
_TITLES: Final = (
    "The Salt Road", "A Lighthouse Year", "Nine Tides", "The Cartographer's Niece", "Small Hours", "Winter Moorings", "The Glass Orchard",
    "Letters to a Ferryman", "North of Rain", "The Slow Kitchen", "Anchor and Ash", "What the Gulls Know",
)  # fmt: skip
_AUTHORS: Final = ("Ines Calder", "Tobias Wren", "M. K. Adeyemi", "Lotte Brandt", "Rafael Ortiz", "June Harlow", "Sanna Virtanen")
_DOCTORS: Final = ("Adler", "Bianchi", "Chowdhury", "Diaz", "Eriksen", "Fofana", "Grant")
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: Final = ("March", "May", "August", "October", "November")
_CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


def write(programme: str, name: str, chance: random.Random) -> str:
    """A text of one of the programmes (offers, orders, appointments, sign-in) to somebody of this first name."""
    code = (
        f"{chance.randrange(1_000_000):06d}"
        if programme == "sign-in"
        else "".join(chance.choices(_CODE_LETTERS, k=3)) + str(chance.randrange(100, 999))
    )
    return chance.choice(_TEXTS[programme]).format(
        name=name,
        title=chance.choice(_TITLES),
        author=chance.choice(_AUTHORS),
        doctor=chance.choice(_DOCTORS),
        day=chance.choice(_DAYS),
        month=chance.choice(_MONTHS),
        hour=f"{chance.randrange(8, 19)}:{chance.choice(('00', '15', '30', '45'))}",
        order=f"{chance.choice('HNPRT')}{chance.randrange(10_000, 99_999)}",
        shelf=chance.randrange(1, 40),
        price=f"${chance.randrange(6, 40)}.{chance.choice(('50', '90', '95'))}",
        percent=chance.choice((10, 15, 20, 25, 30)),
        code=code,
    )
