"""The closed list of reasons: why a message is where it is. Used alike in events, audit, metrics and documents."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """Why a message is where it is; docs/events.md says what each means, in the words of the comments here."""

    # decided by the gateway
    ALLOWED = "allowed"  # nothing stood against it
    OPTED_OUT = "opted_out"  # an opt-out covers this person and message
    NO_OPT_IN = "no_opt_in"  # marketing, and no opt-in on record
    EXPIRED = "expired"  # expires_at had passed before a request could begin
    RETENTION = "retention"  # its content's time was over before a request could begin
    NOT_BEFORE = "not_before"  # waits for its not_before
    BAD_NUMBER = "bad_number"  # not a number, or not one that can be texted
    NOT_ON_ALLOW_LIST = "not_on_allow_list"  # an allow-list is set and the number is not on it
    UNKNOWN_PROGRAMME = "unknown_programme"  # the tenant's policy has no such programme
    CATEGORY_NOT_ALLOWED = "category_not_allowed"  # the programme does not send that category
    SENDER_NOT_ALLOWED = "sender_not_allowed"  # the sender is not one of the programme's, or the route does not lead over it
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"  # no sender of the programme is with a provider that the policy allows
    REGION_NOT_ALLOWED = "region_not_allowed"  # no account that it could leave by is in a region that the policy allows
    NO_ROUTE = "no_route"  # the programme has no route for its category and the person's country
    DUPLICATE = "duplicate"  # the message_id was there before, with the same content
    PAUSED = "paused"  # an operator has paused what it belongs to
    CANCELED = "canceled"  # an operator canceled it
    ACCOUNT_CLOSED = "account_closed"  # the tenant's customer account is closed
    # said by the provider about a create request
    RATE_LIMITED = "rate_limited"  # too many requests
    QUEUE_FULL = "queue_full"  # the provider's queue or daily limit is full
    CONFIGURATION = "configuration"  # credentials or set-up: an operator must act
    UNREACHABLE = "unreachable"  # the provider could not be reached: surely nothing was sent
    NOT_TEXTABLE = "not_textable"  # the provider cannot text this number
    REGION_NOT_ENABLED = "region_not_enabled"  # the account may not text this country
    REFUSED = "refused"  # the provider refused it for another reason
    NO_ANSWER = "no_answer"  # the request may or may not have been accepted
    # learned after acceptance
    ACCEPTED = "accepted"  # the provider has accepted it
    DELIVERED = "delivered"  # the carrier reports delivery
    NOT_DELIVERED = "not_delivered"  # the carrier reports that it did not arrive
    FILTERED = "filtered"  # the provider or a carrier filtered it out as unwanted, before or after acceptance
    NO_RECEIPT = "no_receipt"  # accepted; no delivery report came in time
    NO_EVIDENCE = "no_evidence"  # unknown, and nothing in time proved an outcome
