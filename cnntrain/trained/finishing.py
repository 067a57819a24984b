"""Step 10, and the end of a run: the best weights are tested, and what came out is written down."""

from dataclasses import asdict

from cnntrain.runs.console import Console
from cnntrain.runs.results import build_results
from cnntrain.runs.run_log import RunLog
from cnntrain.runs.runs import BEST
from cnntrain.runs.saving import Saver
from cnntrain.runtime.device import device_name
from cnntrain.tasks.evaluation import eval_batches_with_bar, evaluate
from cnntrain.tasks.task import Evaluation
from cnntrain.trained.calibrate import save_temperature
from cnntrain.trained.trained import Trained, load, shared
from cnntrain.training.setup import SetUp


def finish(ready: SetUp, saver: Saver, log: RunLog, console: Console) -> Trained:
    """Step 10: tests the best weights, once, and writes down what came out; the network that has them."""
    config, splits, state, settings = ready.config, ready.splits, ready.state, ready.settings
    outcome, stopping, path = saver.outcome(), state.stopping, log.folder / BEST
    why = stopping.reason if stopping.gives_up else f"the last epoch, {settings.epochs}, is done"
    console.step(9, "termination", f"{why}; best epoch {stopping.best_epoch}")

    best = load(path, settings.device)
    if config.recipe.temperature_scaling:
        best, outcome["val"] = save_temperature(best, splits.val)
        fitted = f"fitted on validation: {best.header.says_of_confidence}"
        console.say(f"     temperature {best.task.temperature:.3f}, {fitted}")
    best = shared(best, settings.processes, settings.device)
    tested = test(best, ready, console)
    results = build_results(
        **outcome,
        name=config.run.name,
        seed=config.run.seed,
        precision=settings.precision,
        verdicts=[asdict(verdict) for verdict in log.verdicts(outcome["val"])],
        test=tested.summary() if tested else None,
        best_epoch=best.header.epoch,
        stopped_because=why,
        total_seconds=saver.total_seconds,
        device=device_name(settings.device),
        images_held=splits.where_held,
        skipped_images={part: len(faults) for part, faults in splits.skipped.items()},
    )
    log.finish(results, tested, splits.test, state.step)
    return best


def test(best: Trained, ready: SetUp, console: Console) -> Evaluation | None:
    """Step 10 itself, by all processes; None where there are no test images."""
    split, settings = ready.splits.test, ready.settings
    on = f"once, on {len(split):,} test images" if len(split) else "left out: no test images"
    console.step(10, "testing", f"the weights of epoch {best.header.epoch}, {on}")
    # 10 testing: on images that no choice has seen, or the number would flatter; once, or it would become a choice too.
    processes, preprocessing = settings.processes, ready.splits.preprocessing
    batches = eval_batches_with_bar(split, preprocessing, settings.eval_batch_size, console, processes)
    return evaluate(best.network, batches, best.task, processes) if len(split) else None
