import copy
import math
import pickle
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier, no_margin, wrap
from withhold.networks.head import classification_layer, features, train_head_only
from withhold.networks.margins import HEADS, LOSSES, SCALE, MarginHead, add_head, cosines, margin_of
from withhold.networks.recipe import Recipe
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import as_unit, train

LABELS = torch.tensor([0, 2, 1, 2, 0])
MARGIN_HEADS = pytest.mark.parametrize("head", LOSSES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def library_loss(head: str, weights: Tensor) -> Any:  # noqa: ANN401 - untyped library
    name, margin = LOSSES[head]
    loss = getattr(losses, name)(num_classes=3, embedding_size=4, margin=margin, scale=SCALE)
    loss.W.data = weights.T.clone()
    return loss


@MARGIN_HEADS
def test_head_and_margin_are_the_librarys_own_loss_with_its_gradients(head: str) -> None:
    embeddings, layer = draw(5, 4).requires_grad_(), MarginHead(4, 3).double()
    library = library_loss(head, layer.weight.detach())
    ours = F.cross_entropy(margin_of(head)(layer(embeddings), LABELS), LABELS)
    theirs = library(embeddings, LABELS)
    torch.testing.assert_close(ours, theirs)
    mine = torch.autograd.grad(ours, [embeddings, layer.weight])
    its = torch.autograd.grad(theirs, [embeddings, library.W])
    torch.testing.assert_close(mine[0], its[0])
    torch.testing.assert_close(mine[1], its[1].T)


@MARGIN_HEADS
def test_margins_are_those_of_the_papers(head: str) -> None:
    logits = SCALE * torch.tensor([[0.3, -0.5, 0.9]]).double()
    changed = margin_of(head)(logits, torch.tensor([1]))
    radians = math.radians(28.6)
    own = {"cosface": -0.5 - 0.35, "arcface": math.cos(math.acos(-0.5) + radians)}[head]
    torch.testing.assert_close(changed, SCALE * torch.tensor([[0.3, own, 0.9]]).double())
    assert radians == pytest.approx(0.5, abs=1e-3)  # the ArcFace paper's


@MARGIN_HEADS
def test_shares_of_classes_are_changed_in_proportion(head: str) -> None:
    logits, margin = SCALE * torch.tanh(draw(5, 3)), margin_of(head)
    torch.testing.assert_close(margin(logits, F.one_hot(LABELS, 3).double()), margin(logits, LABELS))
    share = torch.tensor([[0.25, 0.75, 0.0]]).double().expand(5, -1)
    of_first, of_second = (margin(logits, torch.full((5,), k)) - logits for k in (0, 1))
    torch.testing.assert_close(margin(logits, share), logits + 0.25 * of_first + 0.75 * of_second)


@MARGIN_HEADS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perfect_and_opposite_images_have_finite_gradients(head: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[SCALE, 0.0], [-SCALE, 0.0]], dtype=dtype, requires_grad=True)
    changed = margin_of(head)(logits, torch.tensor([0, 0]))
    loss = F.cross_entropy(changed, torch.tensor([0, 0]))
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), logits)
    for values in (changed, slope, curvature):
        assert values.isfinite().all()


@MARGIN_HEADS
def test_forward_mode_agrees_with_reverse_mode_and_with_differences(head: str) -> None:
    embeddings, weights, tangent, margin = draw(5, 4), draw(3, 4, seed=1), draw(3, 4, seed=2), margin_of(head)

    def loss(weights: Tensor) -> Tensor:
        return F.cross_entropy(margin(SCALE * cosines(embeddings, weights), LABELS), LABELS)

    rate = torch.func.jvp(loss, (weights,), (tangent,))[1]
    torch.testing.assert_close(rate, (torch.func.grad(loss)(weights) * tangent).sum())
    step = 1e-6
    difference = (loss(weights + step * tangent) - loss(weights - step * tangent)) / (2 * step)
    torch.testing.assert_close(rate, difference, rtol=1e-6, atol=1e-8)


def test_logits_are_scaled_cosines_whatever_the_lengths() -> None:
    layer, embeddings = MarginHead(4, 3).double(), draw(5, 4)
    angles = torch.nn.functional.cosine_similarity(embeddings[:, None], layer.weight[None], dim=2)
    torch.testing.assert_close(layer(embeddings), SCALE * angles)
    torch.testing.assert_close(layer(7 * embeddings), layer(embeddings))
    assert layer.bias is None


def test_mixed_precision_does_not_round_the_cosines() -> None:
    layer, embeddings = MarginHead(64, 3), draw(5, 64).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.Linear(64, 3)(embeddings).dtype == torch.bfloat16
        mixed = layer(embeddings)
    assert torch.equal(mixed, layer(embeddings))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["iresnet10-narrow", "resnet9"])
def test_built_networks_carry_their_head(name: str, head: str) -> None:
    network = build(name, 3, input_size=32, head=head).eval()
    _, layer = classification_layer(network)
    assert (network.head, isinstance(layer, MarginHead)) == (head, head != "softmax")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(layer(features(network, x)), network(x))
    assert (network.margin is no_margin) == (head == "softmax")


def test_a_new_head_for_other_identities_keeps_the_extractor_and_its_features() -> None:
    network = build("iresnet10-narrow", 3, input_size=32, head="arcface").eval()
    x = torch.rand(2, 3, 32, 32)
    before = features(network, x)
    add_head(network, "softmax", classes=7)
    assert (network.classes, network.head, network.margin) == (7, "softmax", no_margin)
    assert network(x).shape == (2, 7)
    assert torch.equal(features(network, x), before)
    assert not any(layer.training for layer in network.modules())


def test_weights_of_a_head_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    state = torch.get_rng_state()
    heads = [build("resnet9", 3, head="cosface", seed=seed).state_dict()["body.linear.weight"] for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@MARGIN_HEADS
def test_networks_with_a_margin_can_be_copied_and_pickled_and_gain_no_weights(head: str) -> None:
    network = build("resnet9", 3, head=head)
    assert list(network.state_dict())[-1] == "body.linear.weight"
    logits = SCALE * torch.tanh(draw(5, 3))
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network.margin))):
        margin = again.margin if isinstance(again, Classifier) else again
        assert torch.equal(margin(logits, LABELS), network.margin(logits, LABELS))


def test_unknown_heads_and_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="unknown head 'sphere'; expected one of softmax, cosface, arcface"):
        build("resnet9", 3, head="sphere")
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(InvalidInput, match=r"head 'arcface' needs .*pip install 'withhold\[faces\]'"):
        build("resnet9", 3, head="arcface")
    assert build("resnet9", 3).head == "softmax"


def frozen_two_by_two(head: str) -> Classifier:
    """One image, a body that is a head alone, so that a step of training can be followed by hand."""
    network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), 2, input_size=2)
    add_head(network, head)
    return network


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("soft", [False, True])
def test_training_descends_the_loss_with_the_margin(head: str, soft: bool) -> None:
    network = frozen_two_by_two(head)
    pixels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0])
    shares = torch.tensor([[0.8, 0.2], [0.0, 1.0], [0.4, 0.6], [1.0, 0.0]])

    class Shares(TensorData):
        def epoch(self, batch_size: int, generator: torch.Generator) -> Any:  # noqa: ANN401, ARG002
            yield pixels.float() / 255, shares if soft else labels

    reference = copy.deepcopy(network)
    targets = shares if soft else labels
    loss = F.cross_entropy(reference.margin(reference(pixels.float() / 255), targets), targets)
    slopes = torch.autograd.grad(loss, list(reference.parameters()))
    expected = [p.detach() - 0.5 * slope for p, slope in zip(reference.parameters(), slopes, strict=True)]
    recipe = Recipe(epochs=1, lr=0.5, momentum=0, weight_decay=0, label_smoothing=0, schedule="steps")
    trained = train(network, Shares(pixels, labels, 2), recipe, seed=0, device=torch.device("cpu"))
    for mine, right in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.detach(), right)
    assert trained.history[0].loss == pytest.approx(loss.item())


@MARGIN_HEADS
def test_a_margin_can_grow_while_a_network_trains(head: str) -> None:
    network = frozen_two_by_two(head)
    pixels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0])
    logits = network(as_unit(pixels)).detach()
    none, whole = (F.cross_entropy(each, labels).item() for each in (logits, network.margin(logits, labels)))
    half = F.cross_entropy((logits + network.margin(logits, labels)) / 2, labels).item()
    assert none < half < whole
    still = Recipe(epochs=4, lr=1e-12, momentum=0, weight_decay=0, label_smoothing=0, margin_growth=0.5)

    class AsTheyAre(TensorData):
        def epoch(self, batch_size: int, generator: torch.Generator) -> Any:  # noqa: ANN401, ARG002
            yield as_unit(pixels), labels

    trained = train(network, AsTheyAre(pixels, labels, 2), still, seed=0, device=torch.device("cpu"))
    assert [epoch.loss for epoch in trained.history] == pytest.approx([none, half, whole, whole], rel=1e-5)


@MARGIN_HEADS
def test_a_margin_head_alone_can_be_trained(head: str, stripe_data: TensorData) -> None:
    network = build("resnet9", 2, input_size=16, head=head)
    train_head_only(network)
    result = train(network, stripe_data, Recipe(epochs=2, label_smoothing=0), seed=0, device=torch.device("cpu"))
    assert result.history[1].loss < result.history[0].loss
