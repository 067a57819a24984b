"""What was measured, for people."""

from cnntrain.data.storage import describe_size
from cnntrain.insight.bench.consistency import contradictions
from cnntrain.insight.bench.measuring import Figures
from cnntrain.runtime.load import describe_contention


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
        *([f"{'withheld because':<20}{reasons}, which cannot be; measure again"] if wrong else []),
        f"{'first step after':<20}{figures.first_step_seconds:.1f} s, from the command on",
        f"{'peak memory':<20}{peak}; all images take {describe_size(figures.image_bytes)}",
        f"{'measured':<20}{figures.rounds} rounds of {figures.steps} steps, interleaved; medians",
        f"{'advice':<20}{advise(figures)}",
    ]


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
