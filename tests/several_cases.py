"""What is tried on one process and on several; see `several`.

The gate tries each case on one other number of processes, `scripts/torture tests/test_several.py` on all.
"""

import math
import os
from dataclasses import replace

from several import Case

PLAIN = "[{conv2d: 6}, relu, {max_pool2d: 2}, flatten, {linear: 24}, relu, linear]"
NORMED = (
    "[{conv2d: 6}, batch_norm, relu, {max_pool2d: 2}, {conv2d: 8}, batch_norm, relu, flatten, {linear: 16}, batch_norm, "
    "relu, linear]"
)
DROPPING = "[{conv2d: 6}, relu, {dropout: 0.2}, {max_pool2d: 2}, flatten, {linear: 24}, relu, {dropout: 0.5}, linear]"
BOTH = DROPPING.replace("{conv2d: 6}, relu", "{conv2d: 6}, batch_norm, relu")
MIXUP, CUTMIX = "augment: [{mixup: {alpha: 0.4}}]", "augment: [{random_crop: {padding: 1}}, cutmix]"
EVERYTHING = "augment: [{random_crop: {padding: 1}}, horizontal_flip, {affine: {degrees: 10}}, color_jitter, random_erasing, {mixup: {alpha: 0.4}}]"

SLOW = "optimizer: {name: sgd, lr: 0.0001}"  # in float32 these drift apart by rounding alone, whoever trains them
FEW = (1, 3)  # processes, for what takes long or differs little from another case

# Equal within rounding.
CLOSE = {
    "plain": Case(PLAIN),
    "odd batches, the last of two": Case(PLAIN, "batch_size: 25", images=77),
    "batch norm": Case(NORMED),
    "batch norm, the last batch of two": Case(NORMED, images=74),
    "batch norm, fewer images than processes": Case(NORMED, "batch_size: 3, epochs: 1", images=15),
    "micro-batches": Case(PLAIN, "micro_batch: 5", counts=FEW),
    "batch norm, micro-batches": Case(NORMED, "micro_batch: 7", counts=FEW),
    "mixup": Case(PLAIN, "batch_size: 23", MIXUP, counts=FEW),
    "cutmix": Case(NORMED, "batch_size: 23", CUTMIX, counts=FEW),
    "class weights": Case(PLAIN, "balance: weights", counts=FEW),
    "class weights, mixup, micro-batches": Case(NORMED, "balance: weights, micro_batch: 7", MIXUP),
    "sampler": Case(PLAIN, "balance: sampler", counts=FEW),
    "clipping, averaging": Case(NORMED, "clip_grad_norm: 0.5, averaging: {decay: 0.9}"),
    "adamw": Case(PLAIN, "optimizer: {name: adamw, lr: 0.001}", counts=FEW),
    "dropout": Case(DROPPING, counts=FEW),
    "dropout, batch norm, micro-batches": Case(BOTH, "micro_batch: 7"),
    "frozen": Case("{name: resnet20, freeze: layer2}", "epochs: 1", images=34, counts=FEW),
    "thawing": Case("{name: resnet20, freeze: layer2}", "epochs: 3, unfreeze: {epoch: 2}", images=34, counts=FEW),
    "growing images": Case("{name: resnet20}", "epochs: 3, progressive_resizing: {initial_size: 6}", images=34, counts=FEW),
    "compiled": Case(NORMED, "micro_batch: 12, epochs: 1", images=34, compiled=True, counts=(1, 2)),
    "stopping early": Case(PLAIN, "epochs: 9, early_stopping: {metric: accuracy, patience: 1}", images=51, counts=FEW),
    "plateaus": Case(PLAIN, "epochs: 9, schedule: {name: reduce_on_plateau, metric: accuracy, patience: 1, factor: 0.5}", images=51, counts=FEW),
    "resnet": Case("{name: resnet20}", f"epochs: 1, {SLOW}", images=34, counts=FEW),
    "alexnet": Case("{name: alexnet, variant: small}", "epochs: 1", "image_size: 16", images=34, counts=(1, 2)),
    "bfloat16": Case(PLAIN, "precision: bfloat16", counts=FEW),
    "float16": Case(PLAIN, "precision: float16"),
    "gradients as bfloat16": Case(PLAIN, "compress_gradients: true", counts=FEW),
}  # fmt: skip

# Every process has the same, which is another network than that of one.
APART = {
    "batch norm of each process": Case(NORMED, "sync_batch_norm: false"),
    "batch norm of each process, fewer images than processes": Case(NORMED, "sync_batch_norm: false, batch_size: 3, epochs: 1", images=15),
}  # fmt: skip

# One process alone meets the number.
SPOILED = {
    f"{policy}, {what}": Case(NORMED, f"on_nonfinite: {policy}", spoiled=(2, 22, value))
    for policy in ("stop", "skip", "rollback")
    for what, value in (("NaN", math.nan), ("too large", 1e38))
} | {"skip, micro-batches": Case(BOTH, "on_nonfinite: skip, micro_batch: 7", spoiled=(5, 2, 1e38))}

# Bit for bit, whatever the number of processes.
SHARDED = {
    name: replace(case, recipe=f"shards: 4, {case.recipe}", counts=(1, 2, 4))
    for name, case in {
        "plain": CLOSE["plain"],
        "batch norm, micro-batches": CLOSE["batch norm, micro-batches"],
        "batch norm, fewer images than shards": Case(NORMED, "batch_size: 4, epochs: 1", images=15),
        "class weights, mixup, micro-batches": CLOSE["class weights, mixup, micro-batches"],
        "everything": Case(BOTH, "micro_batch: 4, balance: weights, averaging: {decay: 0.9}, clip_grad_norm: 1.0, batch_size: 23", EVERYTHING),
        "thawing": CLOSE["thawing"],
        "growing images": CLOSE["growing images"],
        "alexnet": Case("{name: alexnet, variant: small}", "epochs: 1, batch_size: 8", "image_size: 16", images=16),
        "stopping early": CLOSE["stopping early"],
        "bfloat16": Case(NORMED, "precision: bfloat16"),
        "float16": Case(NORMED, "precision: float16"),
        "skip, NaN": SPOILED["skip, NaN"],
        "rollback, too large": SPOILED["rollback, too large"],
    }.items()
}  # fmt: skip

# Within what float64 rounds to.
ROUNDED = ("bfloat16", "float16", "gradients as bfloat16")
DOUBLED = {
    name: replace(case, doubled=True, **({"images": 26} if case.model.startswith("{") else {"counts": (1, 4)}))
    for name, case in CLOSE.items()
    if name not in (*ROUNDED, "compiled", "alexnet")
} | {
    "googlenet": Case(
        "{name: googlenet, variant: small}",
        "epochs: 1, batch_size: 5",
        "image_size: 16",
        images=7,
        doubled=True,
        counts=FEW,
    )
}
# What rounding alone makes of another order.
ORDERED = (
    "plain",
    "batch norm",
    "batch norm, the last batch of two",
    "class weights",
    "clipping, averaging",
    "adamw",
    "thawing",
    "resnet",
)
REVERSED = {name: replace(CLOSE[name], reversed=True, counts=(1,)) for name in ORDERED}

# What a step sends, and what it makes the host wait for.
COUNTED = {
    name: replace(case, counted=True, counts=(1, 2, 3))
    for name, case in {
        "plain": Case(PLAIN),
        "micro-batches": Case(PLAIN, "micro_batch: 5"),
        "everything": Case(NORMED, "micro_batch: 12, balance: weights, clip_grad_norm: 1.0", images=72),
        "batch norm of each process": Case(NORMED, "sync_batch_norm: false"),
        "shards": Case(NORMED, "shards: 4, micro_batch: 3"),
    }.items()
}  # fmt: skip
COUNTED["shards"] = replace(COUNTED["shards"], counts=(1, 2))
WRONG = {"averaged": Case(PLAIN, "batch_size: 25", averaged=True)}

if os.environ.get("CNNTRAIN_TORTURE") != "full":
    DOUBLED = {name: DOUBLED[name] for name in ("batch norm, the last batch of two", "dropout", "thawing")}
    del CLOSE["compiled"], SHARDED["alexnet"]  # a third of all the time
    for cases in (CLOSE, SPOILED, SHARDED):
        for number, (name, case) in enumerate(cases.items()):
            others = [count for count in case.counts if count > 1]
            cases[name] = replace(case, counts=(1, others[number % len(others)]))

CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "close": CLOSE, "doubled": DOUBLED, "reversed": REVERSED, "apart": APART, "spoiled": SPOILED, "sharded": SHARDED,
        "counted": COUNTED, "wrong": WRONG,
    }.items()
    for name, case in cases.items()
}  # fmt: skip
