"""What the operator tells a webhook and `kubectl describe`, and how often."""

from __future__ import annotations

import asyncio
import itertools
import re
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, lake

from crypto_lake_operator import alerts
from crypto_lake_operator.alerts import AFTER_SECONDS, due, recorded, troubles, unasked
from crypto_lake_operator.api_status import ToldAlert
from crypto_lake_operator.client import Api
from crypto_lake_operator.collectors import Seen
from crypto_lake_operator.events import BURST, SAME_AGAIN_SECONDS, Limiter, News, Teller
from crypto_lake_operator.naming import Slot
from crypto_lake_operator.observed import Pod, Unreachable
from crypto_lake_operator.report import Report


def seen(subject: str = "a-0", *, answers: bool = False, asked: bool = True, wanted: bool = True) -> Seen:
    replica, _, shard = subject.partition("-")
    pod = Pod(f"lake-{subject}", phase="Running", ip="10.0.0.1")
    silence = Unreachable("no answer", NOW) if asked and not answers else None
    return Seen(Slot(replica, int(shard)), pod.name, wanted, pod, Report() if answers else None, silence)


def test_a_silence_is_told_after_five_minutes_once_an_hour_and_its_end_once() -> None:
    told: tuple[ToldAlert, ...] = ()
    since: dict[str, Any] = {}
    sent: list[tuple[int, str, int]] = []
    for minute in range(300):
        now = NOW + timedelta(minutes=minute)
        slots = [seen(answers=not 10 <= minute < 150)]
        found = troubles(slots, False, since, now)
        if found and "a-0" not in since:
            found = [found[0]._replace(began=now)]
        since = {trouble.subject: trouble.began for trouble in found}
        notices, later = due(found, unasked(slots), told, 3600.0, now)
        sent += [(minute, notice.state, notice.number) for notice in notices]
        told = recorded(told, [n.record for n in notices if n.record], 3600.0, now)
        assert later is None or later > 0
    assert sent == [(15, "firing", 1), (75, "firing", 2), (135, "firing", 3), (150, "resolved", 3)]
    assert AFTER_SECONDS == 300


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_one_that_flaps_sends_no_more_than_one_an_hour_and_each_end_once(down: list[bool]) -> None:
    told: tuple[ToldAlert, ...] = ()
    since: dict[str, Any] = {}
    fired: list[int] = []
    states: list[str] = []
    for minute, is_down in enumerate(down):
        now = NOW + timedelta(minutes=minute)
        began = since.get("a-0", now)
        found = [alerts.Trouble("a-0", "lake-a-0", began, "gone", "Unreachable")] if is_down else []
        since = {"a-0": began} if is_down else {}
        notices, _ = due(found, frozenset(), told, 3600.0, now)
        fired += [minute for notice in notices if notice.state == "firing"]
        states += [notice.state for notice in notices]
        told = recorded(told, [n.record for n in notices if n.record], 3600.0, now)
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(fired))
    assert "resolvedresolved" not in "".join(states)
    assert not states or states[0] == "firing"


def test_who_is_suspended_not_wanted_or_not_asked_yet_is_no_trouble() -> None:
    assert troubles([seen()], True, {}, NOW) == []
    assert troubles([seen(wanted=False)], False, {}, NOW) == []
    assert troubles([seen(asked=False)], False, {}, NOW) == []
    assert unasked([seen(asked=False)]) == {"a-0"}
    alert = ToldAlert(subject="a-0", since=alerts.iso(NOW), told=alerts.iso(NOW))
    assert due([], frozenset({"a-0"}), (alert,), 3600.0, NOW) == ([], None), "not asked is not resolved"


def test_events_are_told_once_and_not_too_often() -> None:
    limiter = Limiter()
    news = [News("Normal", "Changed", "Apply", f"note {n}") for n in range(100)]
    told = [limiter.may_tell("1", each, 0.0) for each in news]
    assert told == [True] * BURST + [False] * (100 - BURST)
    assert limiter.may_tell("2", news[0], 0.0), "of another lake"
    assert not limiter.may_tell("1", news[0], SAME_AGAIN_SECONDS - 1)
    assert limiter.may_tell("1", news[0], SAME_AGAIN_SECONDS + 1)


@pytest.mark.parametrize("name", ["a" * 199 + ".b", "a" * 199 + "-b", "a" * 199 + "-.-b", "b" * 253, "c"])
def test_an_event_has_a_name_that_the_api_takes_whatever_the_lake_is_called(name: str) -> None:
    made: list[dict[str, Any]] = []

    class Events:
        async def create(self, kind: Any, namespace: str, body: dict[str, Any]) -> None:
            made.append(body)

    teller = Teller(cast("Api", Events()), "me")
    asyncio.run(teller.tell(lake(name), News("Normal", "Ready", "Observe", "x")))
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    assert re.fullmatch(rf"{label}(\.{label})*", made[0]["metadata"]["name"])
    assert len(made[0]["metadata"]["name"]) <= 253
