"""The lines of signals.jsonl: what the layers' gradients and updates were in logged steps."""

from collections.abc import Mapping
from typing import Any

from cnntrain.runs.files import json_text

MAX_LINES = 400  # as many as a chart can show


class LoggedSteps:
    """Lines that stay spread over a training of any length: when they are too many, every second one goes.

    Attributes:
        lines: JSON, each with its newline.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._spacing = 1  # logged steps from one line to the next
        self._num_logged = 0

    def add(self, line: Mapping[str, Any]) -> None:
        """Takes in a logged step, or passes over it."""
        if self._num_logged % self._spacing == 0:
            self.lines.append(json_text(line) + "\n")
        self._num_logged += 1
        if len(self.lines) > MAX_LINES:
            self.lines, self._spacing = self.lines[::2], 2 * self._spacing

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on."""
        return {"lines": list(self.lines), "spacing": self._spacing, "num_logged": self._num_logged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.lines, self._spacing, self._num_logged = list(state["lines"]), state["spacing"], state["num_logged"]
