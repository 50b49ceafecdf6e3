"""Which script a create request meets: by its number, by the number's last digits, or by chance under the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from gateway.simulator.config import CarrierConfig
from gateway.simulator.plan import Plan, make_plan
from gateway.simulator.scripts import NAMED, SUFFIXES, Fate, Script

__all__ = ["Playlist"]


class Playlist:
    """The scripts in force. What chance decides depends on the seed, the number and how often it was texted, never on timing."""

    def __init__(self, config: CarrierConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self.usual = self._plan(Script())
        self.unsent = self._plan(Script(fate="queued"))
        self._failing: dict[str, Plan] = {}
        self._suffixes = {digits: self._plan(NAMED[name]) for digits, name in SUFFIXES.items()} if config.suffixes else {}
        self.clear()

    def clear(self) -> None:
        """Back to the configured scripts, none of them used."""
        self.mix(self._config.mix)
        self._by_number = {number: self._plan(script) for number, script in self._config.scripts.items()}
        self._afterwards: dict[Plan, Plan] = {}
        self._used: Counter[str] = Counter()
        self._creates: Counter[str] = Counter()

    def set(self, number: str, script: Script | None) -> None:
        """Give a number a script, unused so far; None takes it away."""
        self._used.pop(number, None)
        if script is None:
            self._by_number.pop(number, None)
        else:
            self._by_number[number] = self._plan(script)

    def mix(self, shares: Iterable[tuple[float, Script]]) -> None:
        """From now on these scripts have these shares of the requests that no number's script is for."""
        self._mix = tuple((share, self._plan(script)) for share, script in shares)

    def next(self, number: str, *, alone: bool = True) -> Plan:
        """The plan for the next message asked for to this number.

        Where it is not ``alone``, chance decides on its fate only, as somebody else has decided on the request that it came in.
        """
        plan = self._by_number.get(number)
        if plan is None and self._suffixes and number.startswith("+1"):
            plan = self._suffixes.get(number[-7:])
        if plan is None and self._mix:
            plan = self._by_chance(number)
            if plan is not None and not alone and plan.script.answer != "accept":
                return self._after(plan)
        if plan is None:
            return self.usual
        if plan.script.times is not None:
            self._used[number] += 1
            if self._used[number] > plan.script.times:
                return self._after(plan)
        return plan

    def expiring(self, plan: Plan, validity: float) -> Plan:
        """The plan of a message that may wait at most ``validity`` seconds: failed with 30036 if it isn't sent by then."""
        if plan.steps and plan.steps[0].after <= validity:
            return plan
        script = replace(plan.script, fate="failed", fate_code=30036, sent_ms=validity * 1000, final_ms=validity * 1000)
        return self._plan(script)

    def failing(self, code: str) -> Plan:
        """The plan of a message that RingCentral takes down and never brings to its person: failed with this code, at once."""
        plan = self._failing.get(code)
        if plan is None:
            fate: Fate = "undelivered" if code.startswith("SMS-CAR-") else "failed"
            plan = self._failing[code] = self._plan(Script(fate=fate, fate_code=code, sent_ms=0, final_ms=0))
        return plan

    def _after(self, plan: Plan) -> Plan:
        after = self._afterwards.get(plan)
        if after is None:
            script = replace(plan.script, answer="accept", times=None, before_ms=0, after_ms=0)
            after = self._afterwards[plan] = self._plan(script)
        return after

    def _by_chance(self, number: str) -> Plan | None:
        self._creates[number] += 1
        drawn = random.Random(f"{self._seed}:{number}:{self._creates[number]}").random()
        for share, plan in self._mix:
            if drawn < share:
                return plan
            drawn -= share
        return None

    def _plan(self, script: Script) -> Plan:
        return make_plan(script, sent_ms=self._config.sent_ms, final_ms=self._config.final_ms)
