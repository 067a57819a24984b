"""What a log that is no terminal says while something takes long."""

from dataclasses import dataclass
from typing import Any

import pytest

from cnntrain.runs.console import Console
from cnntrain.runtime.processes import ALONE, Alone


class Clock:
    """Seconds, which pass by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("cnntrain.runs.console.time.monotonic", clock.monotonic)
    return clock


def test_a_log_says_every_30_seconds_how_far_it_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def detail() -> str:
        asked.append(clock.now)
        return f"loss {clock.now}"

    for _ in Console().progress(range(100, 400), 400, "epoch 2/9, step", first=100, detail=detail):
        clock.now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "     epoch 2/9, step: 130 of 400, loss 30.0, about 4 min left"
    assert [line.split()[3] for line in lines] == ["130", "160", "190", "220", "250", "280", "310", "340", "370"]
    assert asked == [30.0 * count for count in range(1, 10)]  # and the device is not waited for in between


def test_the_time_left_of_all_epochs_is_said_where_others_follow(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in Console().progress(range(100), 100, "epoch 2/9, step", after=700):
        clock.now += 1.0
    assert capsys.readouterr().err.splitlines()[0].endswith("30 of 100, about 70 s left, 13 min of all epochs")


def test_what_was_said_meanwhile_counts(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for second in console.progress(range(50), 50, "decoding"):
        clock.now += 1.0
        if second == 28:
            console.say("a note")
    assert capsys.readouterr().err == "a note\n"


def test_many_short_epochs_are_no_silence_of_minutes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for _ in range(10):
        for _ in console.progress(range(10), 10, "epoch"):
            clock.now += 1.0
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_quiet_says_nothing_and_costs_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    items = range(100)
    assert Console(quiet=True).progress(items, 100, "decoding") is items
    for _ in Console(quiet=True).progress(items, 100, "decoding"):
        clock.now += 100
    assert capsys.readouterr().err == ""


@dataclass(frozen=True)
class First(Alone):
    """The first of three processes, of which the others have noted what is given."""

    count: int = 3
    others: tuple[list[str], ...] = ()

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others]


def test_what_other_processes_note_is_said_once_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say("     note: of all", "no note")
    console.tell_notes(First(others=(["note: of all", "note: a\nb"], ["note: of all", "note: a\nb", "note: of me"])))
    console.tell_notes(First(others=([], [])))
    assert capsys.readouterr().err.splitlines()[2:] == [
        "     process 1 of 3: note: a\\nb", "     process 2 of 3: note: of me"
    ]  # fmt: skip
    Console().tell_notes(ALONE)
    assert capsys.readouterr().err == ""
