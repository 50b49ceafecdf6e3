"""The data map of the rest: providers, the key ring, the labels of metrics, the keys of log entries."""

from __future__ import annotations

from typing import Final

from gateway.domain.data_map import Area, Held, Part, Until

__all__ = ["ELSEWHERE", "KEYS", "LABELS", "LOGS", "PROVIDERS"]

_AGAIN: Final = "by its API, and again until it says that it is; see `gateway retention plan`"
_COPIED_TEXT: Final = Until("retention.content", f"redacted, or deleted where a text cannot go alone, {_AGAIN}")
_COPIED_NUMBER: Final = Until("retention.address", f"deleted {_AGAIN}")
_LISTED: Final = Until("the provider's own rules", "it is the provider's list of opt-outs, which holds at its side")
_GONE: Final = "a key is destroyed for good with its day's deadline; its name stays, used up"

_NUMBER: Final = Held(
    "the number of each text, of people's own too", "to send, and to look for it in lists", "clear", _COPIED_NUMBER
)
_TEXT: Final = Held("the text, people's own too", "to send it, and to hear them", "clear", _COPIED_TEXT)

PROVIDERS: Final = Part(
    "Providers",
    "field",
    "The fields of our requests. What we have them keep of a text is theirs too, by their own duties: what an account can have redacted and deleted is in\n"
    "[providers](providers.md).",
    (
        Area(
            "twilio",
            {
                "To": _NUMBER,
                "Body": _TEXT,
                "Items.contact_id Items.sender_id Items.status Items.date_of_consent": Held(
                    "number, sender, opted out or in, when",
                    "to stop other systems too, where `consents_api` is on",
                    "clear",
                    _LISTED,
                ),
            },
            {
                "From MessagingServiceSid": "a sender of ours",
                "StatusCallback": "a URL with a signed token of ids",
                "ContentRetention AddressRetention": "what Twilio is to keep, by the account's settings",
                "Status": "that a scheduled text is canceled",
                "Items.correlation_id Items.source": "a random id, and that Twilio hears it from us",
                "DateSent< DateSent> Page PageSize": "how far a list is read",
            },
        ),
        Area(
            "ringcentral",
            {
                "to.phoneNumber messages.to phoneNumber": _NUMBER,
                "text messages.text": _TEXT,
                "records.to records.from records.optStatus": Held(
                    "number, sender, opted out or in", "to stop other systems too", "clear", _LISTED
                ),
                "to": Held("the number of an opt-out that it tells of", "to read what its list says", "clear", _LISTED),
            },
            {
                "from.phoneNumber from": "a sender of ours",
                "records.source": "that RingCentral hears it from us",
                "batchId": "its own id of a batch",
                "purge": "that a copy is deleted for good",
                "direction messageType availability view dateFrom dateTo page pageToken perPage": "which list, and how far it is read",
                "eventFilters expiresIn deliveryMode.address deliveryMode.transportType deliveryMode.verificationToken": "which events it "
                "posts, to a URL of ours, the same for all",
                "grant_type assertion": "the app signs in",
            },
        ),
    ),
)

KEYS: Final = Part(
    "The key ring",
    "piece",
    "In a folder, or in a PostgreSQL of its own (the table `key_ring`). In a process's memory a key stays a minute at most.",
    (
        Area(
            "key ring",
            {
                "wrapped": Held(
                    "what opens the sealed data", "so that it can be ended", "wrapped", Until("as each class, by day", _GONE)
                ),
            },
            {
                "name made_at destroyed_at": "a tenant, a class and a day",
                "lineage": "which database it is, and how far its log had come",
            },
        ),
        Area("master keys", none={"key": "random bytes, for the gateway's user alone"}),
    ),
)

ELSEWHERE: Final = Part(
    "Elsewhere",
    "piece",
    "What passes, and what people make. The simulated carrier keeps numbers and texts in its memory; it is for trying things out.",
    (
        Area(
            "memory",
            {
                "number text": Held(
                    "what is being sent, or was just received",
                    "to pass it on",
                    "clear",
                    Until("none: seconds", "with the request"),
                )
            },
        ),
        Area(
            "API and webhooks",
            {
                "number text": Held(
                    "in bodies, never in a URL of ours",
                    "to take a person's word",
                    "clear",
                    Until("none: seconds", "with the request"),
                )
            },
        ),
        Area(
            "files that commands read or write",
            {
                "consent-import": Held(
                    "numbers and proofs, in a file of yours",
                    "to import them",
                    "clear",
                    Until("none: yours", "delete it; rejects name lines alone"),
                ),
                "audit-export": Held(
                    "what `audit_chain` holds", "to verify it elsewhere", "keyed hash", Until("none: yours", "delete it")
                ),
            },
            {"keys-backup": "wrapped keys, until their date; nothing opens without the master keys"},
        ),
        Area(
            "backups of PostgreSQL",
            {
                "dump": Held(
                    "what the tables hold",
                    "to restore them",
                    "sealed",
                    Until("none: yours", "what is sealed ends with its keys; hashes stay: delete old ones"),
                )
            },
        ),
    ),
)

LABELS: Final = Part(
    "Labels of metrics",
    "label",
    "Values are from closed lists, or an operator's own names. No label has personal data.",
    (
        Area(
            "metrics",
            none={
                "state reason category scope kind": "of messages and consents, from closed lists",
                "result outcome why source to stage": "of the gateway's work, from closed lists",
                "provider account place": "providers, aliases of accounts, places of data",
                "topic partition": "Kafka's",
                "route status": "a pattern of the API, an HTTP status",
                "version python le": "of the build; the bound of a bucket",
            },
        ),
    ),
)

LOGS: Final = Part(
    "Keys of log entries",
    "key",
    "Logs go to standard error; how long they stay is up to who collects them. Numbers and personal types are hidden in every value, also of libraries.",
    (
        Area(
            "logs",
            none={
                "timestamp level logger event line": "when, and what, in words of the program",
                "error message frames causes": "of an exception: its type and places in the program; the text of our own faults alone, which hold no value",
                "why": "the text of one of our own faults, or a word from a closed list",
                "uid": "a random id; of nobody without the database",
                "tenant data_class place count seconds again": "whose, what kind, how many, how long",
                "account source step reason code evidence kind": "aliases, and words from closed lists; a provider's code",
                "topic partition partitions offset first id sequence": "the place of a record",
                "role pid web admin file check route": "of the process: its role, ports, files, health checks and the pattern of a path",
            },
        ),
    ),
)
