"""The places where personal data stands, put together: what ends it, by the clock and by command."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.app.accounts import accounts_place
from gateway.app.copies import lost_accounts, provider_places
from gateway.app.places import kafka_place, keys_place
from gateway.app.retention_rows import rows_of
from gateway.flow.retaining import STEP_MOST, Retaining
from gateway.flow.retention import Place
from gateway.flow.retention_windows import Window, Windows
from gateway.flow.sweep import Step, Sweep
from gateway.store.windows import WindowTables

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["retention_places", "retention_sweeps"]

_END_EVERY: Final = 60.0  # seconds
_LOOK_EVERY: Final = 3600.0
_IDLE: Final = 2.0  # nothing here is in a hurry: one process takes over from another within some seconds


def retention_places(parts: Parts) -> list[Place]:
    """Every place, in the order in which they are ended: rows before the keys that open them, so that what was not settled is told first."""
    places: list[Place] = [
        windows_place(parts),
        *provider_places(parts),
        lost_accounts(parts),
        rows_of(parts),
        keys_place(parts),
        accounts_place(parts),
    ]
    if parts.settings.kafka.servers is not None:
        places.append(kafka_place(parts))
    return places


def windows_place(parts: Parts) -> Windows:
    """What settings end."""
    tables = WindowTables(parts.database)
    ids, senders = parts.settings.message_id_window_days, parts.settings.routing.keep_sender_days
    return Windows(
        [
            Window(
                "message_ids",
                "message_id_window_days",
                timedelta(days=ids),
                tables.oldest_id,
                partial(parts.watch.forget_ids, ids * 86_400.0),
            ),
            Window(
                "kept_senders",
                "routing.keep_sender_days",
                # a day is kept to its end, and what was used on it as long
                timedelta(days=senders + 1),
                tables.oldest_sender,
                partial(parts.routing.forget_senders, senders),
            ),
        ]
    )


def retention_sweeps(parts: Parts) -> Mapping[str, Sweep]:
    """Each place by the clock, apart from all else and from each other, one process at a time.

    Nothing ends in a database that may lack what was written to it: what was sent might be ended there as never sent, and a hold be missing.
    """
    sweeps: dict[str, Sweep] = {}
    for place in retention_places(parts):
        name = f"retention {place.name}"
        leading = parts.leading(name)
        retaining = Retaining(place, leading, parts.control.now, parts.metrics)
        steps = [
            Step(f"{name} ends", retaining.end, _END_EVERY, most=STEP_MOST),
            Step(f"{name} looks", retaining.look, _LOOK_EVERY, while_held=True),
        ]
        sweeps[name] = Sweep(leading, steps, lost=retaining.forget, idle=_IDLE, held=lambda: parts.lineage.held)
    return sweeps
