"""Bodies of messages: a contract, and shapes that Slack and Discord take."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.watch.alerts import Notice
from crypto_lake.watch.conditions import Alert
from crypto_lake.watch.webhook_bodies import Sender, body, format_of, message

SENDER = Sender("prod", "prod-0-9f3a", "host", "1.0")
AT_NS = 1_723_161_254_000_000_000
texts = st.text(max_size=5000)
notices = st.builds(
    Notice,
    st.builds(
        Alert,
        texts,
        st.just("data_gap"),
        texts,
        st.sampled_from(["warning", "critical"]),
        texts,
        st.integers(1, 2 * AT_NS),
        st.integers(1, 2 * AT_NS),
    ),
    st.sampled_from(["firing", "resolved", "test"]),
    st.integers(1, 1000),
    st.just(0) | st.integers(1, 2 * AT_NS),
    st.booleans(),
)


@given(notices)
def test_every_message_has_its_three_shapes(notice: Notice) -> None:
    told = message(notice, SENDER, AT_NS)
    document = json.loads(body(told, "json"))
    assert list(document) == [
        "schema", "id", "state", "key", "condition", "subject", "severity", "message", "lake", "collector", "host",
        "version", "started_at", "since", "ended_at", "sent_at", "duration_seconds", "number", "late", "details",
    ]  # fmt: skip
    assert document["message"] == notice.alert.message
    assert document["duration_seconds"] >= 0
    slack = json.loads(body(told, "slack"))
    assert list(slack) == ["text"]
    assert 0 < len(slack["text"]) <= 3000
    assert "<" not in slack["text"]  # no link, and nobody is called
    discord = json.loads(body(told, "discord"))
    assert 0 < len(discord["content"]) <= 2000
    assert discord["allowed_mentions"] == {"parse": []}


def test_a_message_to_read() -> None:
    alert = Alert("holes:x", "holes", "x", "critical", "7 are missing.", AT_NS - 600 * 10**9, AT_NS)
    firing = json.loads(body(message(Notice(alert, "firing", 2), SENDER, AT_NS), "slack"))["text"]
    assert firing == (
        "🔴 *critical: holes x*\n7 are missing.\n"
        "prod on host (prod-0-9f3a); for 10 min, since 2024-08-08T23:44:14Z, told 2 times"
    )
    late = Notice(alert, "resolved", 1, ended_ns=AT_NS - 300 * 10**9, late=True)
    assert json.loads(body(message(late, SENDER, AT_NS), "discord"))["content"].endswith(
        "it lasted 5 min, from 2024-08-08T23:44:14Z; the webhook could not be reached then"
    )


def test_the_id_is_the_same_when_it_is_sent_again_and_else_another() -> None:
    alert = Alert("a", "holes", "", "warning", "m", 1, 2)
    one, again = (message(Notice(alert, "firing", 1), SENDER, at) for at in (AT_NS, AT_NS + 10**9))
    assert one.id == again.id
    others = [
        message(Notice(alert, "firing", 2), SENDER, AT_NS),
        message(Notice(alert, "resolved", 1), SENDER, AT_NS),
        message(Notice(Alert("a", "holes", "", "warning", "m", 1, 3), "firing", 1), SENDER, AT_NS),
    ]
    assert len({one.id, *(other.id for other in others)}) == 4


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://HOOKS.slack.com/services/T/B/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://canary.discord.com/api/webhooks/1/x", "discord"),
        ("https://discordapp.com/api/webhooks/1/x/slack", "slack"),
        ("https://example.org/hooks.slack.com", "json"),
        ("https://notdiscord.com/x", "json"),
    ],
)
def test_the_shape_goes_by_the_host(url: str, expected: str) -> None:
    assert format_of(url) == expected
