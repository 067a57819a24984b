"""One step: auxiliary losses take part, dropout is a function of seed and step."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import without_dropout
from torch import nn

from cnntrain.config.loading import parse_config
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.models.options import WithAuxiliary
from cnntrain.training.loop import begin_epoch, train_step
from cnntrain.training.setup import Built, build_training

TEXT = (
    "model: {model}\ndata: {{source: digits, image_size: 16}}\n"
    "recipe: {{batch_size: 24, precision: float32, optimizer: {{lr: 0.01, momentum: 0, nesterov: false}}}}\n"
    "run: {{seed: {seed}}}\n"
)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return prepare_data(parse_config(TEXT.format(model="lenet5", seed=0), "test").data)


def built(model: str, splits: Splits, seed: int = 0) -> Built:
    ready = build_training(parse_config(TEXT.format(model=model, seed=seed), "test"), splits, torch.device("cpu"))
    begin_epoch(ready.state.network, ready.settings, 1)
    return ready


def first_batch(splits: Splits) -> Batch:
    return next(train_batches(splits.train, splits.preprocessing.augmentation((), 10), 24, seed=0, epoch=1))


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_auxiliary_losses_train_with_their_weight(splits: Splits) -> None:
    trained, settings, _ = built("{name: googlenet, variant: small, aux_weight: 0.3}", splits)
    expected = without_dropout(copy.deepcopy(trained.network))
    without_dropout(trained.network)
    batch = first_batch(splits)
    done = train_step(trained, batch, settings)

    outputs = expected(batch.images)
    assert isinstance(outputs, WithAuxiliary)
    losses = [nn.functional.cross_entropy(logits, batch.targets) for logits in (outputs.logits, *outputs.auxiliary)]
    (losses[0] + 0.3 * losses[1] + 0.3 * losses[2]).backward()
    optimizer = torch.optim.SGD(expected.parameters(), lr=trained.last_learning_rate, weight_decay=5e-4)
    optimizer.step()
    torch.testing.assert_close(weights(trained.network), weights(expected), rtol=1e-4, atol=1e-6)
    # What is reported compares with validation, which knows the main classifier alone.
    assert done.loss == pytest.approx(float(losses[0].detach()), rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step(splits: Splits) -> None:
    model = "{name: sequential, layers: [flatten, linear: 32, relu, dropout: 0.5, linear]}"
    batch = first_batch(splits)

    def after_two_steps(*, seed: int = 0, step: int = 0) -> torch.Tensor:
        trained, settings, _ = built(model, splits)
        trained, settings = replace(trained, step=step), replace(settings, seed=seed)
        torch.manual_seed(int(torch.randint(1000, ()).item()))  # the global generator has no say
        for _ in range(2):
            train_step(trained, batch, settings)
        return weights(trained.network)

    assert torch.equal(after_two_steps(), after_two_steps())
    assert not torch.equal(after_two_steps(), after_two_steps(seed=1))
    assert not torch.equal(after_two_steps(), after_two_steps(step=5))


def test_a_step_leaves_the_global_generator_alone(splits: Splits) -> None:
    trained, settings, _ = built("{name: sequential, layers: [flatten, dropout, linear]}", splits)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_step(trained, first_batch(splits), settings)
    assert torch.equal(torch.rand(3), expected)


def test_going_on_from_a_saved_state_repeats_dropout_exactly(splits: Splits) -> None:
    model = "{name: alexnet, variant: small}"
    batch, (whole, settings, _) = first_batch(splits), built(model, splits)
    for _ in range(2):
        train_step(whole, batch, settings)
    state = copy.deepcopy(whole.state_dict())
    for _ in range(2):
        train_step(whole, batch, settings)
    again, settings, _ = built(model, splits, seed=0)
    again.load_state_dict(state)
    for _ in range(2):
        train_step(again, batch, settings)
    assert torch.equal(weights(whole.network), weights(again.network))


def test_momentum_begins_at_zero_where_the_scaler_leaves_the_first_update_out(splits: Splits) -> None:
    text = TEXT.format(model="lenet5", seed=0).replace("momentum: 0, nesterov: false", "momentum: 0.9")
    built = build_training(parse_config(text, "test"), splits, torch.device("cpu"))
    state, batch = built.state, first_batch(splits)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))  # every gradient is too large
    begin_epoch(state.network, built.settings, 1)
    before = weights(state.network)
    torch.use_deterministic_algorithms(True)  # and so memory that nobody has filled yet is NaN
    try:
        train_step(state, batch, built.settings)
        assert torch.equal(weights(state.network), before)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        train_step(state, batch, built.settings)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.isfinite(weights(state.network)).all()
    assert not torch.equal(weights(state.network), before)
