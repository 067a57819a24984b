"""Gradients on their way back, and ReLUs that stop them."""

import math
from statistics import median

from cnntrain.insight.doctor.observations import Line, Observations, Verdict

# Lines that a median needs before it is believed.
MIN_LINES = 5

# The first layer's gradient beside the largest of any layer. Each sigmoid multiplies the gradient by 1/4 at most, so
# five of them leave less than this (Glorot and Bengio: "Understanding the difficulty of training deep feedforward
# neural networks", 2010). Networks that learn well have 0.05 to 1 here, all that are shipped among them.
VANISHING = 1e-3

# The Euclidean norm of all gradients together. The networks that are shipped stay below 21, at the start as well;
# people clip at 1 to 5 (Pascanu et al.: "On the difficulty of training recurrent neural networks", 2013).
EXPLODING = 100.0
EXPLODING_SHARE = 0.1  # of the logged steps: a step now and then does no harm

# The share of dead units in a layer. CS231n's notes speak of 40 % where the learning rate is too high; a healthy LeNet
# has up to 26 % in its first epochs, and a filter or two more or less means nothing.
DEAD, MOSTLY_DEAD = 0.5, 0.9
MIN_IMAGES = 30  # of validation: that a unit is silent for fewer says nothing of others


def vanishing_gradients(observed: Observations) -> Verdict | None:
    """Whether hardly any gradient arrives at the first layer that is trained."""
    if len(observed.steps) < MIN_LINES or not observed.steps[-1]["gradient_norm"]:
        return None
    norms = _median_norms(observed)
    largest, first = max(norms, key=lambda layer: norms[layer]), next(iter(norms))
    if not 0 < norms[first] < VANISHING * norms[largest]:  # 0: something is dead or cut off
        return None
    weak = [layer for layer, norm in norms.items() if norm < VANISHING * norms[largest]]
    where = first if len(weak) == 1 else f"{first} and {len(weak) - 1} more of {len(norms)} layers"
    return Verdict(
        "vanishing_gradients",
        "problem",
        f"Hardly any gradient reaches {where}: that of {first} is {norms[first] / norms[largest]:.0e} times that of "
        f"{largest}.",
        {"gradient_norms": norms, "layers": weak},
        "relu instead of sigmoid or tanh, batch norm after each layer, residual blocks or fewer layers, or "
        "model.init: xavier (kaiming for relu)",
    )


def _median_norms(observed: Observations) -> dict[str, float]:
    recent, layers = observed.recent_steps, observed.steps[-1]["gradient_norm"]
    return {layer: median(line["gradient_norm"].get(layer, 0.0) for line in recent) for layer in layers}


def exploding_gradients(observed: Observations) -> Verdict | None:
    """Whether gradients are far too large, again and again."""
    huge = [line for line in observed.steps if _norm(line) > EXPLODING]
    if len(huge) < max(3, EXPLODING_SHARE * len(observed.steps)):
        return None
    worst = max(huge, key=_norm)
    layer = max(worst["gradient_norm"], key=lambda name: worst["gradient_norm"][name])
    return Verdict(
        "exploding_gradients",
        "problem",
        f"The gradients explode: their norm was above {EXPLODING:g} in {len(huge)} of {len(observed.steps)} logged "
        f"steps, {_norm(worst):.3g} in step {worst['step']}, most of it in {layer}.",
        {
            "num_steps": len(huge),
            "num_logged": len(observed.steps),
            "largest_norm": _norm(worst),
            "step": worst["step"],
        },
        "recipe.clip_grad_norm: 1.0, a lower recipe.optimizer.lr, a warm-up (recipe.schedule.warmup_fraction: 0.1), "
        "batch norm, or model.init: kaiming",
    )


def _norm(line: Line) -> float:
    return math.hypot(*line["gradient_norm"].values())


def dead_relus(observed: Observations) -> Verdict | None:
    """Whether most units of a layer were silent when they were last looked at."""
    looked = [epoch for epoch in observed.epochs if epoch.get("dead_relus")]
    if not looked or (looked[-1]["epoch"] == 1 and not observed.finished):  # averages and norms are only settling
        return None
    if observed.val.get("num_images", MIN_IMAGES) < MIN_IMAGES:
        return None
    shares = looked[-1]["dead_relus"]
    dead = {layer: share for layer, share in shares.items() if share >= DEAD}
    if not dead:
        return None
    worst = max(dead, key=lambda layer: dead[layer])
    more = f", and half or more in {len(dead) - 1} other layers" if len(dead) > 1 else ""
    return Verdict(
        "dead_relus",
        "problem" if dead[worst] >= MOSTLY_DEAD else "warning",
        f"{dead[worst]:.0%} of the units of {worst} are dead after epoch {looked[-1]['epoch']}: their ReLU gives 0 for "
        f"every image{more}.",
        {"epoch": looked[-1]["epoch"], "dead_shares": dead},
        "a lower recipe.optimizer.lr, a warm-up (recipe.schedule.warmup_fraction: 0.1), recipe.clip_grad_norm: 1.0, "
        "leaky_relu or batch norm; they do not come back by themselves, so train anew",
    )
