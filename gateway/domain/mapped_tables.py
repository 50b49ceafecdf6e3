"""The data map of PostgreSQL: every column of every table. Partitions are as their table."""

from __future__ import annotations

from typing import Final

from gateway.domain.data_map import Area, Held, Part, Until

__all__ = ["TABLES"]

_ADDRESS: Final = Until("retention.address", "its day's key is destroyed, also for backups; the column goes with its row")
_CONTENT: Final = Until("retention.content", "its day's partition is dropped, and the day's key destroyed, also for backups")
_RECIPIENT: Final = Until("retention.content", "emptied with the day's content: only what is on a list stays of the message")
_NAME: Final = Until("retention.content", "emptied with the day's content, and the day's key destroyed, also for backups")
_EVENTS: Final = Until("retention.events", "its row goes with its day; a count of nobody stays")
_AUDIT: Final = Until("retention.events", "its day's partition is dropped; an anchor stays, so that the chain can be verified")
_LETTERS: Final = Until("retention.dead_letters", "its row is deleted, and the day's key destroyed, also for backups")
_PROOF: Final = Until(
    "retention.consent_proof",
    "an opt-out removes it, or seals it under a legal hold's key; the next opt-in replaces it; the day's key is destroyed",
)
_SUPPRESSION: Final = Until("retention.suppression", "it stays: an opt-out must outlive whatever else is erased of the person")
_QUEUED: Final = Until(
    "retention.content", "its row is gone when the message is sent or ended; no message waits past its content's end"
)
_PUBLISHED: Final = Until("none: minutes", "its row is removed when the broker has the event; a parked one waits for an operator")
_TOLD: Final = Until(
    "none: until nothing is owed",
    "emptied when the provider confirms, refuses or can be told no more; with its day's key at the latest",
)
_ERASED: Final = Until(
    "retention.content",
    "noted some hours before a copy is due at the provider; its row is deleted when that is erased, or given up",
)

_CUSTOMER: Final = Until("retention.customer_account", "emptied so long after the account was closed; numbers are refused in it")
_HELD: Final = Until(
    "none: as the hold says", "released or over: the hold's key is destroyed, and its rows deleted, with the next run"
)
_HOLD: Final = Until("none: for good", "it stays, as who held what and why must be answered for")

_SUBJECT: Final = "who: a hash of the number under a key of this installation"
_ROUTE: Final = "ours: a programme, account or sender of the policy"
_WORK: Final = "the gateway's own work"

_KEPT_SENDER: Final = Until("routing.keep_sender_days", "the sweep deletes it so many days after the last text")
_WINDOW: Final = Until("message_id_window_days", "the sweep deletes it when the window is over")

_TABLES: Final = (
    Area(
        "messages",
        {
            "to_sealed": Held("the number", "to send to it, and to look for evidence of what was sent", "sealed", _ADDRESS),
            "subject_id": Held(_SUBJECT, "a STOP finds what waits; one person's story", "keyed hash", _RECIPIENT),
            "recipient_sealed": Held("the producer's own name of the person", "its events name it", "sealed", _NAME),
            "recipient_ref": Held(
                "the same, of a message from before such names were sealed; written no more",
                "its events name it",
                "clear",
                _RECIPIENT,
            ),
            "message_id": Held("the producer's own name of the message", "its events name it", "clear", _EVENTS),
            "programme category kind state reason policy rule code expires_at not_before attempt provider account sender "
            "provider_message_id parts begun_at changed_at correction": Held(
                "what a text was for, by which way it went, and what became of it", "the story of a message", "clear", _EVENTS
            ),
        },
        {
            "uid": "a random id with a time; of nobody without the row",
            "tenant": "a tenant",
            "final version steps settle_by check_at": _WORK,
            "trace": "the producer's trace of a request",
        },
    ),
    Area(
        "bodies",
        {"sealed": Held("the text and the producer's metadata", "to send it, and to recognise it in a list", "sealed", _CONTENT)},
        {"uid": "names the message"},
    ),
    Area(
        "queue",
        {
            "subject_id": Held(_SUBJECT, "a STOP finds what waits for the person", "keyed hash", _QUEUED),
            "elder": Held(
                "who, under the version before, while the key of these hashes is exchanged",
                "messages to one person leave one by one, under whichever id",
                "keyed hash",
                _QUEUED,
            ),
            "country": Held("the number's country, where a route names countries", "to choose a way out", "clear", _QUEUED),
        },
        {
            "uid": "names the message",
            "route_id sender any_sender": _ROUTE,
            "tenant programme category kind": "as in `messages`, for the time it waits",
            "state due_at lane_until expires_at attempt tries steps parts worker_id lease_until marked_at": _WORK,
        },
    ),
    Area(
        "message_ids",
        {
            "id_hash": Held("a hash of the producer's message id", "the same message is sent once", "keyed hash", _WINDOW),
            "content_digest": Held(
                "a hash of what the message says", "another text under the same id is refused", "keyed hash", _WINDOW
            ),
        },
        {"tenant": "a tenant", "uid": "names the message"},
    ),
    Area(
        "consents",
        {
            "subject_id": Held(_SUBJECT, "nobody who opted out is texted", "keyed hash", _SUPPRESSION),
            "tenant scope name status version source stated_at written_at in_force_at": Held(
                "what the person said, when, by which way, and for what",
                "the suppression list, and opt-ins",
                "clear",
                _SUPPRESSION,
            ),
            "proof_sealed": Held(
                "who opted in, where, when, to which words; the device's address where a form gave it",
                "to prove it",
                "sealed",
                _PROOF,
            ),
            "reply": Held(
                "number and text of a confirmation that is owed",
                "to confirm an opt-out once",
                "sealed",
                Until("none: seconds", "emptied when the opt-out is in force, and the confirmation queued"),
            ),
        },
        {"proof_uid": "binds the proof to its row", "key": "which version of the key made the hash"},
    ),
    Area(
        "propagations",
        {
            "subject_id": Held(_SUBJECT, "to know what each account holds of the person", "keyed hash", _SUPPRESSION),
            "number_sealed": Held("the number", "to tell a provider account of an opt-out", "sealed", _TOLD),
            "holds said told_at": Held(
                "what the account holds of the person", "opt-outs hold at the provider too", "clear", _SUPPRESSION
            ),
        },
        {
            "account sender": _ROUTE,
            "changes due_at waiting_since tried_at tries refused": _WORK,
            "number_tenant number_uid": "which key seals the number",
        },
    ),
    Area("opt_out_lists", none={"account": _ROUTE, "read_at": _WORK}),
    Area(
        "older_opt_outs",
        {
            "after": Held(
                _SUBJECT,
                "to go on where it was left",
                "keyed hash",
                Until("none: the next step", "overwritten by the next person, emptied at the end of a round"),
            )
        },
        {"account sender": _ROUTE, "rounds next_at": _WORK},
    ),
    Area(
        "provider_copies",
        {
            "subject_id": Held(_SUBJECT, "a legal hold may keep what is the person's", "keyed hash", _ERASED),
            "made_at": Held(
                "that the person was texted, or texted us, and when", "its deadline is reckoned from it", "clear", _ERASED
            ),
        },
        {
            "id": "counted up",
            "uid provider_message_id": "which copy",
            "tenant": "whose deadlines it has",
            "account part": _ROUTE,
            "next_at tries laters": _WORK,
        },
    ),
    Area("provider_copies_noted", none={"account tenant part": _ROUTE, "last_uid last_at": _WORK}),
    Area(
        "inbound",
        {
            "subject_id": Held(
                _SUBJECT, "a repeated webhook changes nothing, and an older STOP none that is newer", "keyed hash", _EVENTS
            ),
            "fate received_at created_at opt_out_tenant opt_out_scope opt_out_name": Held(
                "what a text of the person was taken for, and when; never its words",
                "a repeat is answered as the first was",
                "clear",
                _EVENTS,
            ),
        },
        {
            "account": _ROUTE,
            "provider_message_id": "the provider's id of the text; stays, so that a repeat is known",
            "tenant": "a tenant",
        },
    ),
    Area(
        "audit_unchained",
        {
            "subject_id": Held(
                _SUBJECT,
                "whom a record is about",
                "keyed hash",
                Until("none: seconds", "replaced by the tenant's own pseudonym when it is chained"),
            ),
            "step state reason rule policy attempt provider account code evidence": Held(
                "what was decided and done, and by what", "every decision can be explained", "clear", _AUDIT
            ),
        },
        {"id at tenant uid number": "the record's place", "actor": "a process, a token's name or an operator's user name"},
    ),
    Area(
        "audit_chain",
        {
            "person": Held(
                "who, on records about no message: another hash for each tenant", "to explain a consent", "keyed hash", _AUDIT
            ),
            "step state reason rule policy attempt provider account code evidence": Held(
                "what was decided and done, and by what", "every decision can be explained", "clear", _AUDIT
            ),
        },
        {
            "tenant sequence chained_at at uid number previous hash": "the record's place in its chain",
            "actor": "a process, a token's name or an operator's user name",
        },
    ),
    Area("audit_heads", none={"tenant sequence hash chained_at published published_at": "the end of a chain"}),
    Area("audit_anchors", none={"tenant sequence hash at why": "where a chain begins"}),
    Area(
        "outbox",
        {
            "subject_id": Held(_SUBJECT, "the key of the event is made from it", "keyed hash", _PUBLISHED),
            "recipient_sealed": Held("the producer's own name of the person", "a consent's event names it", "sealed", _PUBLISHED),
            "payload": Held("what a person texted, with the number; other events whole", "to publish it", "sealed", _PUBLISHED),
            "state reason provider account sender attempt parts policy rule": Held(
                "what became of a message", "to publish it", "clear", _PUBLISHED
            ),
        },
        {
            "id kind created_at first_told_at version final correction parked": _WORK,
            "recipient_uid": "which message's key seals the name",
            "tenant": "a tenant",
            "uid": "names the message or the event",
        },
    ),
    Area(
        "dead_letters",
        {
            "sealed": Held(
                "a record that could not be processed, whole",
                "a person with the right looks at it, and puts it back",
                "sealed",
                _LETTERS,
            )
        },
        {
            "topic partition record_offset uid at tenant": "where it came from, and when",
            "reason detail": "which field and which rule; never a value",
            "length sha256": "confirms the record to who has it",
            "form replay_of replays replayed_at replayed_by": "what was done with it, by which token",
        },
    ),
    Area(
        "kept_senders",
        {
            "subject_id": Held(_SUBJECT, "to be texted by the sender that the person knows", "keyed hash", _KEPT_SENDER),
            "tenant programme sender used_on": Held("by which sender, and on which day last", "the same", "clear", _KEPT_SENDER),
        },
    ),
    Area(
        "counts",
        none={
            "period start tenant provider category state reason count": "how many, of nobody; small counts are merged before they are told"
        },
    ),
    Area("routes", none={"route_id tenant programme provider account sender per_second": _ROUTE}),
    Area(
        "paces",
        none={"account sender": _ROUTE, "next_at hold_until hold_reason breaker opens trying_until": _WORK},
    ),
    Area("shares", none={"account": _ROUTE, "worker_id share until": _WORK}),
    Area(
        "pauses",
        none={
            "scope tenant name since": "what is held",
            "actor why": "an operator's user name and words; numbers are refused in them",
        },
    ),
    Area("leaders", none={"name holder until": _WORK}),
    Area("catch_up", none={"account": _ROUTE, "raised_at done_at": _WORK}),
    Area("spool", none={"topic next_offset clear_until": _WORK}),
    Area("facts", none={"name value": "fingerprints of this installation"}),
    Area(
        "tokens",
        none={"token_hash name tenants created_at revoked_at rights": "a program's right; its name is an operator's choice"},
    ),
    Area(
        "closed_accounts",
        {"who why": Held("who closed a customer account, and why", "the closing must be answered for", "clear", _CUSTOMER)},
        {
            "tenant closed_at noted_at": "which accounts are closed",
            "noted_by": "an operator's user name, or a token's name",
        },
    ),
    Area("ended_days", none={"day data_class tenant at done_at": "which days of a tenant are over"}),
    Area(
        "message_counts",
        none={"tenant day programme category kind provider state reason count": "how many messages there were, of nobody"},
    ),
    Area(
        "legal_holds",
        {"subject_id subject_ids": Held(_SUBJECT, "to find what is of the person", "keyed hash", _HOLD)},
        {
            "id tenant uid": "what is held",
            "who why added_at added_by until_at released_at released_by ended_at": "an operator's words and user name; numbers are refused in them",
        },
    ),
    Area(
        "held",
        {
            "sealed": Held(
                "texts, numbers, proofs and records that a hold covers, past their deadlines", "a court asked", "sealed", _HELD
            )
        },
        {"hold thing name": "which hold, and what it keeps"},
    ),
    Area("ended_keys", none={"tenant data_class day at done_at": "which keys are no more"}),
    Area(
        "subject_keys",
        none={
            "version fingerprint added_at copied_at used_at settled_at": "the versions of the key that people are hashed with",
            "added_by used_by": "an operator's user name",
        },
    ),
    Area("clock", none={"one_row shift": "moved by tests alone"}),
    Area("migrations", none={"name at": "the schema's version"}),
)

TABLES: Final = Part(
    "PostgreSQL",
    "column",
    "What is sealed is sealed under a key of its tenant, class of data and day, and bound to its row (AES-256-GCM). A keyed hash cannot be made without\n"
    "the key ring. Backups hold what the tables hold; what is sealed in them dies with its key.",
    _TABLES,
)
