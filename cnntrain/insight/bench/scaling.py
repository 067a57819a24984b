"""Several processes against one of them, which trains alone while the others wait."""

import statistics
from typing import Any

import torch

from cnntrain.insight.bench.parts import Parts
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.machine import available_cores
from cnntrain.training.setup import Built, SetUp


class Scaling:
    """What one process does alone, measured in turn with what all do; of one process nothing.

    Args:
        ready: A training that is set up.
        log: Of the epochs of training.
        alone: The same network in a training of one process; None where there is one.
    """

    def __init__(self, ready: SetUp, log: RunLog, alone: Built | None) -> None:
        self._processes, self._threads = ready.settings.processes, torch.get_num_threads()
        cores = available_cores() if ready.settings.device.type == "cpu" else 0
        self._cores = self._processes.first(lambda: cores)
        self._parts: Parts | None = None
        if alone and self._processes.rank == 0:
            self._parts = Parts(ready._replace(state=alone.state, settings=alone.settings), log)
        self._same, self._all_cores = list[float](), list[float]()

    def measure(self) -> None:
        """A round: with the same threads, and with one on each core."""
        if self._processes.count == 1:
            return
        self._same.append(self._processes.first(lambda: self._rate(self._threads)))
        if self._cores > self._threads:
            self._all_cores.append(self._processes.first(lambda: self._rate(self._cores)))

    def figures(self, rates: dict[str, list[float]]) -> dict[str, Any]:
        """By name, see `Figures`; medians over the rounds, in which all did what is in `rates`."""
        if self._processes.count == 1:
            return {}
        each = [this / that for this, that in zip(rates["train"], self._same, strict=True)]
        spent = [1 - this / that for this, that in zip(rates["bare_step"], rates["silent_step"], strict=True)]
        figures = {
            "num_processes": self._processes.count,
            "one_process_rate": statistics.median(self._same),
            "scaling_efficiency": statistics.median(each) / self._processes.count,
            "communication_share": max(0.0, statistics.median(spent)),
        }
        if self._all_cores:
            ratios = [this / that for this, that in zip(rates["train"], self._all_cores, strict=True)]
            figures["one_process_all_cores_rate"] = statistics.median(self._all_cores)
            figures["all_cores_ratio"] = statistics.median(ratios)
        return figures

    def _rate(self, num_threads: int) -> float:
        assert self._parts is not None
        torch.set_num_threads(num_threads)
        try:
            return self._parts.rate(self._parts.train)
        finally:
            torch.set_num_threads(self._threads)
