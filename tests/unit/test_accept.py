from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.domain.policy_files import read_policy
from gateway.flow.accept import _latest

NOW = datetime(2026, 5, 22, 10, tzinfo=UTC)  # the Friday before Whitsun


@pytest.mark.parametrize(
    "content, end",
    [
        ("6d", datetime(2026, 5, 28, 10, tzinfo=UTC)),
        ("[30d, 1mo]", datetime(2026, 6, 21, 10, tzinfo=UTC)),
        ("1bd", datetime(2026, 5, 26, 10, tzinfo=UTC)),
        ("{forever: why}", datetime(2027, 5, 22, 10, tzinfo=UTC)),
        ("0d after closing", datetime(2027, 5, 22, 10, tzinfo=UTC)),
        ("UNSET", NOW),  # no such tenant is enabled; if one were, nothing would be sent for it
    ],
)
def test_no_message_waits_longer_than_its_content_is_kept(content: str, end: datetime) -> None:
    text = "tenant: a\nname: A\ncalendar: NL\nproviders: [twilio]\nprogrammes: UNSET\nretention: {content: %s}\n"
    assert _latest(read_policy(text % content, "a.yaml"), NOW) == end
