"""What was measured, for people; without figures that contradict one another, as they may on a busy machine."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cnntrain.data.storage import describe_size
from cnntrain.insight.bench.measuring import Figures
from cnntrain.runtime.load import describe_contention

NOISE = 0.05  # by which a part may seem to take longer than the whole


def report(figures: Figures) -> list[str]:
    """A table, where the time goes, and a line of advice; what contradicts itself is left out, with the reason."""
    wrong = contradictions(figures)
    rows = [
        ("bare step", "bare_step_rate", "forward, backward and update on one batch, nothing else"),
        ("training", "train_rate", "" if "train_ratio" in wrong else f"{figures.train_ratio:.1%} of the bare step"),
        ("data path alone", "data_rate", figures.images_held),
        ("bare forward pass", "forward_rate", "float32, on one batch"),
        (
            "evaluation",
            "evaluate_rate",
            "" if "evaluate_ratio" in wrong else f"{figures.evaluate_ratio:.1%} of the bare forward pass",
        ),
    ]
    rows += [row for row in _alone(figures) if getattr(figures, row[1])]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in figures.shares.items())
    peak = describe_size(figures.peak_memory_bytes) if figures.peak_memory_bytes else "unknown"
    reasons = "; ".join(dict.fromkeys(wrong.values()))
    rates = [
        (label, "withheld" if name in wrong else f"{getattr(figures, name):,.0f}", remark)
        for label, name, remark in rows
    ]
    return [
        f"{figures.name}: {figures.network}, batch {figures.batch_size}, {figures.precision}, "
        f"{figures.memory_format}, {figures.device}",
        f"{'':<20}{'images/s':>12}",
        *(f"{label:<20}{rate:>12}  {remark}".rstrip() for label, rate, remark in rates),
        "",
        f"{'training is':<20}{'withheld' if 'shares' in wrong else shares}",
        *([f"{'communicating':<20}{_communication(figures)}"] if figures.num_processes > 1 else []),
        *([f"{'withheld because':<20}{reasons}, which cannot be; measure again"] if wrong else []),
        f"{'first step after':<20}{figures.first_step_seconds:.1f} s, from the command on",
        f"{'peak memory':<20}{peak}; all images take {describe_size(figures.image_bytes)}",
        f"{'measured':<20}{figures.rounds} rounds of {figures.steps} steps, interleaved; medians",
        f"{'advice':<20}{advise(figures)}",
        *(f"{'':<20}{line}" for line in _advise_on_processes(figures)),
    ]


def _alone(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Rows about one process alone."""
    count, threads = figures.num_processes, figures.num_threads
    efficiency = figures.scaling_efficiency or 0
    remark = f"alone; {count} are {count * efficiency:.2f} times as fast: scaling efficiency {efficiency:.1%}"
    yield "one process", "one_process_rate", remark
    yield "one on all cores", "one_process_all_cores_rate", f"alone, where the {count} have {_threads(threads)} each"


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _communication(figures: Figures) -> str:
    return f"{figures.communication_share or 0:.0%} of a bare step, with waiting for the other processes"


def _advise_on_processes(figures: Figures) -> Iterator[str]:
    """Whether so many are worth it."""
    count, ratio = figures.num_processes, figures.all_cores_ratio
    if ratio is None or (figures.contention and figures.contention >= NOISE) or "train_rate" in contradictions(figures):
        return
    if ratio < 1 - NOISE:
        yield f"one process with a thread on each core is {1 / ratio:.2f} times as fast as these {count}: start it once"
    elif ratio > 1 + NOISE:
        yield f"these {count} processes are {ratio:.2f} times as fast as one with a thread on each core: keep them"


def advise(figures: Figures) -> str:
    """The one thing that would help most."""
    busy, shares = describe_contention(figures.contention, figures.num_threads), figures.shares
    if busy:
        return f"measure again when the machine is idle: {busy}"
    if "shares" in contradictions(figures):
        return "the parts do not add up: the rounds are too few or too unlike; measure again with more --rounds"
    if shares["data"] > 0.2 and figures.streamed:
        return "decoding limits training: set data.storage: cache if the disk has room, or lower data.stored_size"
    if shares["data"] > 0.2:
        return "data.augment takes a good part of the time; rotation, affine and colour_jitter cost most"
    if shares["loop"] > 0.2:
        return "the network is so small that the loop shows; a larger recipe.batch_size makes fewer, larger steps"
    if shares["update"] > 0.2:
        return "updating the weights takes a good part of the time; a larger recipe.batch_size updates less often"
    return "the network's arithmetic takes the time: a smaller network, smaller images or a faster device would help"


def contradictions(figures: Figures) -> dict[str, str]:
    """The names of the figures that cannot all be true, and why, as part of a sentence."""
    return dict(_contradictions(figures))


def consistent(figures: Figures) -> dict[str, Any]:
    """The figures by name, null where they contradict one another, and under `withheld` why."""
    wrong = contradictions(figures)
    return {**asdict(figures), **dict.fromkeys(wrong, None), "withheld": list(dict.fromkeys(wrong.values()))}


def _contradictions(figures: Figures) -> Iterator[tuple[str, str]]:
    # Of the ratio and of the medians beside it: on a busy machine they are far apart.
    training = max(figures.train_ratio, figures.train_rate / figures.bare_step_rate)
    evaluation = max(figures.evaluate_ratio, figures.evaluate_rate / figures.forward_rate)
    data = figures.train_rate / figures.data_rate
    if training > 1 + NOISE:
        why = f"training came out {training:.2f} times as fast as the bare step, which is a part of it"
        yield from ((name, why) for name in ("bare_step_rate", "train_rate", "train_ratio", "shares"))
    if evaluation > 1 + NOISE:
        why = f"evaluation came out {evaluation:.2f} times as fast as its bare forward pass"
        yield from ((name, why) for name in ("forward_rate", "evaluate_rate", "evaluate_ratio"))
    if data > 1 + NOISE:
        why = f"training came out {data:.2f} times as fast as its data path alone"
        yield from ((name, why) for name in ("train_rate", "train_ratio", "data_rate", "shares"))
    low, high = min(figures.shares.values()), max(figures.shares.values())
    if low < -NOISE or high > 1 + NOISE:
        yield "shares", f"the shares of training came out between {low:.0%} and {high:.0%}"
