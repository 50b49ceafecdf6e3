"""The data map of Kafka: every field of every event, and what else stands in a topic. Topics are named as they are by default."""

from __future__ import annotations

from typing import Final

from gateway.domain.data_map import Area, Held, Part, Until

__all__ = ["EVENTS", "TOPICS"]

_TOPIC: Final = (
    "Kafka deletes its segment by the topic's `retention.ms`, which the policies bound; the embedded broker deletes nothing"
)
_INPUT: Final = Until("retention.content", _TOPIC)
_TEXTS: Final = Until("retention.content", _TOPIC)
_EVENTS: Final = Until("retention.events", _TOPIC)
_LETTERS: Final = Until("retention.dead_letters", f"{_TOPIC}; what is sealed ends with its day's key before")
_SUPPRESSION: Final = Until("retention.suppression", "the topic is compacted: the last word of each person and scope stays")
_SPOOLED: Final = Until("none: 30d", "it expires; the number ends with its day's key before")

_NAMES: Final = Held("the producer's own names", "the backend knows its message and person again", "clear", _EVENTS)
_WHAT_BECAME: Final = Held(
    "what a text was for, by which way it went, and what became of it", "the backend follows its messages", "clear", _EVENTS
)

EVENTS: Final = Part(
    "Events",
    "field",
    "A field's name is dotted where it is nested. `sms.outbound.message.v1` is the producer's: it stands in `sms.outbound.v1` and the topics of tenants' own.\n"
    "What *expires* goes when Kafka deletes its segment: by the topic's `retention.ms` and `segment.ms`, which the policies bound. The embedded broker deletes nothing.",
    (
        Area(
            "sms.outbound.message.v1",
            {
                "to": Held("the number", "to text the person", "clear", _INPUT),
                "body metadata": Held("the text, and the producer's own notes", "to send it", "clear", _INPUT),
                "message_id recipient_ref": Held("the producer's own names", "events name them", "clear", _INPUT),
                "opt_in_proof opt_in_proof.medium opt_in_proof.at opt_in_proof.purpose opt_in_proof.seller opt_in_proof.campaign "
                "opt_in_proof.receipt_id opt_in_proof.confirmed_by opt_in_proof.ip": Held(
                    "who opted in, where, when, to what", "marketing needs a proof; it is sealed in `consents`", "clear", _INPUT
                ),
            },
            {
                "tenant programme category sender": "whose text it is, of which kind, by which of our senders",
                "not_before expires_at": "when it may be sent",
                "opt_in_proof.wording opt_in_proof.form_text_sha256 opt_in_proof.form_version": "of a form, the same for all who fill it in",
                "traceparent": "the producer's trace of a request",
            },
        ),
        Area(
            "sms.status.changed.v1",
            {
                "message_id recipient_ref": _NAMES,
                "programme category state reason occurred_at provider account sender attempt parts rule": _WHAT_BECAME,
            },
            {"tenant": "a tenant", "final version correction policy": "the event's place, and the policy's version"},
        ),
        Area(
            "sms.inbound.received.v1",
            {
                "number": Held("the person's number", "the tenant answers", "clear", _TEXTS),
                "body": Held("what the person texted", "the tenant answers", "clear", _TEXTS),
                "recipient_ref": Held(
                    "the producer's own name for the person", "the backend knows the person again", "clear", _TEXTS
                ),
                "programme sender received_at": Held("to which of our senders, and when", "the same", "clear", _TEXTS),
            },
            {"inbound_id": "a random id", "tenant provider account": "whose text it is, and by which account it came"},
        ),
        Area(
            "sms.consent.changed.v1",
            {
                "person": Held("who: another hash for each tenant", "the backend keeps its own list", "keyed hash", _SUPPRESSION),
                "recipient_ref": Held(
                    "the producer's own name for the person", "the backend knows the person again", "clear", _SUPPRESSION
                ),
                "scope name status source stated_at written_at in_force_at": Held(
                    "what the person said, when, by which way, and for what",
                    "the backend keeps its own list",
                    "clear",
                    _SUPPRESSION,
                ),
            },
            {"tenant": "a tenant, or all", "version final": "the event's place"},
        ),
        Area(
            "sms.outbound.dead-letter.v1",
            {"sealed": Held("the record, whole", "who has the right opens it", "sealed", _LETTERS)},
            {
                "dead_letter_id replay_of": "random ids",
                "reason detail": "which field and which rule; never a value",
                "topic partition offset tenant occurred_at": "where it came from, and when",
                "length sha256": "confirms the record to who has it",
                "sealed_form key_day": "how it is sealed",
            },
        ),
        Area(
            "sms.metrics.counted.v1",
            none={
                "tenant period start provider category state reason merged count": "how many, of nobody; small counts are merged"
            },
        ),
        Area(
            "sms.audit.recorded.v1",
            {
                "person": Held(
                    "who, on records about no message: another hash for each tenant",
                    "to explain a consent",
                    "keyed hash",
                    _EVENTS,
                ),
                "step state reason rule policy attempt provider account code evidence": Held(
                    "what was decided and done, and by what", "every decision can be explained", "clear", _EVENTS
                ),
            },
            {
                "chain tenant sequence previous chained_at at uid number hash": "the record's place in its chain",
                "actor": "a process, a token's name or an operator's user name",
            },
        ),
    ),
)

TOPICS: Final = Part(
    "What else is in topics",
    "key, header or field",
    "Besides events. Topics are the settings' (`kafka.topics`), by their names there.",
    (
        Area(
            "outbound",
            {
                "key": Held(
                    "whatever the producer chose",
                    "order, where it wants one; never read or logged by the gateway",
                    "clear",
                    _INPUT,
                )
            },
            {"ce_id ce_source ce_type ce_time ce_traceparent content-type": "the envelope; the producer's ids"},
        ),
        *(
            Area(
                topic,
                {
                    "key": Held("who: another hash for each tenant", "a person's events keep their order", "keyed hash", until),
                    **more,
                },
                {"ce_id ce_source ce_type ce_time content-type": "the envelope: random ids, with versions"},
            )
            for topic, until, more in (
                ("status", _EVENTS, {}),
                ("inbound", _TEXTS, {}),
                (
                    "consent",
                    _SUPPRESSION,
                    {
                        "ce_sealedsubject": Held(
                            "who: the hash of the number, for this gateway alone",
                            "a restored database learns who opted out since",
                            "sealed",
                            _SUPPRESSION,
                        )
                    },
                ),
            )
        ),
        *(
            Area(
                topic,
                none={"key": "an id or a tenant", "ce_id ce_source ce_type ce_time content-type": "the envelope: random ids"},
            )
            for topic in ("dead_letter", "metrics", "audit")
        ),
        Area(
            "stop_spool",
            {
                "subject": Held(
                    "who: a hash of the number", "a STOP that found PostgreSQL away is applied", "keyed hash", _SPOOLED
                ),
                "source reach": Held("what the person said, by which way", "the same", "clear", _SPOOLED),
                "text": Held("the sealed number, and which STOP word; no other words", "to confirm it", "sealed", _SPOOLED),
            },
            {"v id ring": "the record's form, id and key ring", "actor": "a process, a token's name or an operator's user name"},
        ),
    ),
)
