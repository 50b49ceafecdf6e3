from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.parts import parts
from gateway.domain.personal import MessageBody
from gateway.domain.reply_texts import fill, help_text, start_text, stop_text, template_fault
from gateway.domain.words import _KIND_OF, LANGUAGES, Language, Word, WordKind, read

STOPS: list[tuple[str, str]] = [
    *(
        (word, "en")
        for word in ["stop", "quit", "end", "revoke", "optout", "cancel", "unsubscribe", "stopall", "remove", "td", "unsub"]
    ),  # FCC, Twilio, AWS, Plivo
    ("opt out", "en"),
    ("OPT-OUT", "en"),
    ("STOP ALL", "en"),
    ("sToP", "en"),
    ("Stop.", "en"),
    ('" stopall "', "en"),
    ("STOP!!", "en"),
    ("  stop\n", "en"),
    ("«Stop»", "en"),
    ("STOP?", "en"),
    ("STOP 🛑", "en"),
    ("🙏 Unsubscribe", "en"),
    ("S-T-O-P", "en"),
    ("ＳＴＯＰ", "en"),  # noqa: RUF001 -- full width
    ("𝗦𝗧𝗢𝗣", "en"),  # noqa: RUF001 -- styled letters
    ("st\u00adop\u200b", "en"),  # a soft hyphen and a blank that cannot be seen
    ("arrêt", "fr"),
    ("ARRET", "fr"),
    ("Arre\u0302t!", "fr"),
    ("désabonner", "fr"),
    ("ALTO", "es"),
    ("baja", "es"),
    ("Cancelar", "es"),
    ("parar", "es"),
    ("Stopp", "de"),
    ("abmelden", "de"),
    ("SAIR", "pt"),
    ("remover", "pt"),
    ("Descadastrar", "pt"),
]
STARTS = [
    *((word, "en") for word in ["start", "unstop", "subscribe", "resume", "continue"]),
    ("Début", "fr"),
    ("DEBUT", "fr"),
    ("INICIO", "es"),
    ("Alta", "es"),
    ("comenzar.", "es"),
    ("“Start”", "en"),
    ("START!", "en"),
]
HELPS = [
    ("HELP", "en"),
    ("info", "en"),
    ("aide", "fr"),
    ("Contact", "fr"),
    ("ayuda", "es"),
    ("HILFE!", "de"),
    ("ajuda", "pt"),
    ("help?", "en"),
]
NOTHING = [
    "",
    " ",
    "🛑",
    "...",
    "1",
    # free wording and typing errors are not read here
    "Stop please",
    "Stop. Thank you",
    "STPO",
    "stop2quit",
    "STOP ads",
    'Liked "Reply STOP to end"',
    "We have got to STOP this terrible bill from passing!!",
    "stop by at 5",
    "arrêt de la thermopompe",
    "STOP START",
    # an opt-in is never guessed
    "YES?",
    "start?",
    "Y-E-S",
    "AL TA",
    "ALTA :(",
    "altá",
    "résumé",
    "not start",
    "Yess",
    "ok",
]


@pytest.mark.parametrize("text, language", STOPS)
def test_stop(text: str, language: Language) -> None:
    found = read(MessageBody(text))
    assert found is not None
    assert (found.kind, found.language) == ("stop", language)


@pytest.mark.parametrize("text, language", STARTS)
def test_start(text: str, language: Language) -> None:
    found = read(MessageBody(text))
    assert found is not None
    assert (found.kind, found.language) == ("start", language)


@pytest.mark.parametrize("text, language", HELPS)
def test_help(text: str, language: Language) -> None:
    found = read(MessageBody(text))
    assert found is not None
    assert (found.kind, found.language) == ("help", language)


@pytest.mark.parametrize("text", ["YES", "yes", " Yes. ", "yes!"])
def test_yes_is_a_kind_of_its_own(text: str) -> None:
    assert read(MessageBody(text)) == Word("yes", "en", "yes")


@pytest.mark.parametrize("text", NOTHING)
def test_anything_else_is_no_word(text: str) -> None:
    assert read(MessageBody(text)) is None


@pytest.mark.parametrize(
    "text, languages, answer",
    [
        ("STOP", ("fr", "en"), "fr"),  # a word of every language: the tenant's first
        ("STOP", ("nb",), "nb"),
        ("START", ("es",), "es"),
        ("ARRET", ("en", "fr"), "fr"),  # a word of one language: that one
        ("ARRET", ("en",), "fr"),  # also when the tenant has not named it
        ("UNSUBSCRIBE", ("fr",), "en"),
        ("PARAR", ("pt", "es"), "pt"),  # a word of two
        ("STOPP", ("nb", "de"), "nb"),
        ("STOPP", ("en",), "de"),
        ("UNSUB", ("nb",), "nb"),
    ],
)
def test_the_language_to_answer_in(text: str, languages: tuple[Language, ...], answer: Language) -> None:
    found = read(MessageBody(text), languages)
    assert found is not None
    assert found.language == answer


def test_join_and_stop_differ_by_one_letter() -> None:
    join, stop = read(MessageBody("ALTA")), read(MessageBody("ALTO"))
    assert join is not None
    assert stop is not None
    assert (join.kind, stop.kind) == ("start", "stop")


@given(some.text(max_size=80))
def test_any_text_is_read_or_is_none(text: str) -> None:
    found = read(MessageBody(text))
    assert found is None or _KIND_OF[found.word] == found.kind


@given(
    some.sampled_from(sorted(word for word, kind in _KIND_OF.items() if kind == "stop")),
    some.text(some.sampled_from(" .!?\"'…-—()\n\t👍"), max_size=6),
    some.text(some.sampled_from(" .!?\"'…-—()\n\t👍"), max_size=6),
    some.data(),
)
def test_a_stop_survives_case_and_what_stands_around_it(word: str, before: str, after: str, data: some.DataObject) -> None:
    cased = "".join(data.draw(some.sampled_from([c, c.upper()])) for c in word)
    found = read(MessageBody(before + cased + after))
    assert found is not None
    assert (found.kind, found.word) == ("stop", word)


@given(some.sampled_from(sorted(word for word, kind in _KIND_OF.items() if kind in {"start", "yes"})), some.data())
def test_no_change_of_a_letter_makes_an_opt_in(word: str, data: some.DataObject) -> None:
    place = data.draw(some.integers(0, len(word)))
    cut = data.draw(some.integers(0, 1))
    changed = (
        word[:place] + data.draw(some.text(some.sampled_from("abcdeilmnoprstuwxyáéñ -?1"), max_size=1)) + word[place + cut :]
    )
    found = read(MessageBody(changed))
    if found is not None and found.kind in {"start", "yes"}:
        assert changed.strip() in {word, "début", found.word}


# ------------------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_name_the_sender_and_fit_one_part(language: Language) -> None:
    name, contact = "Northside Clinic", "help@northside.example"
    answers = [stop_text(language, name), start_text(language, name, contact), help_text(language, name, contact)]
    assert all(answer.startswith(name) for answer in answers)
    assert [contact in answer for answer in answers] == [False, True, True]
    assert all(parts(MessageBody(answer)) == 1 for answer in answers)
    assert all("{" not in answer for answer in answers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_tell_words_that_work(language: Language) -> None:
    told: list[tuple[str, WordKind]] = [
        (stop_text(language, "A"), "start"),
        (start_text(language, "A", "c"), "stop"),
        (help_text(language, "A", "c"), "stop"),
    ]
    for answer, kind in told:
        assert kind.upper() in answer
        word = read(MessageBody(kind.upper()), (language,))
        assert word == Word(kind, language, kind)


@pytest.mark.parametrize("name", ["", " ", "\n"])
def test_an_answer_without_a_sender_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        stop_text("en", name)
    with pytest.raises(ValueError, match="name"):
        fill("hello", name)


@pytest.mark.parametrize(
    "template, fault",
    [
        ("{name}: bye", None),
        ("{name}: write to {contact}, {{really}}", None),
        ("", "empty"),
        ("  ", "empty"),
        ("bye", "{name}"),
        ("{name}: {number}", "no other"),
        ("{name.__class__}", "no other"),
        ("{name!r}", "no other"),
        ("{name:>9}", "no other"),
        ("{0} {name}", "no other"),
        ("{} {name}", "no other"),
        ("{name", "brace"),
        ("{name} }", "brace"),
    ],
)
def test_templates_of_a_policy(template: str, fault: str | None) -> None:
    said = template_fault(template)
    assert (said is None) if fault is None else (said is not None and fault in said)
    if fault is None:
        assert fill(template, "A", "c").startswith("A: ")
