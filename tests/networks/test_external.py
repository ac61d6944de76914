import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier
from withhold.networks.table import build


@pytest.fixture(params=["resnet", "vit"])
def saved_transformer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny classifier of five classes with random weights, saved as transformers saves it; nothing is fetched."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    if request.param == "resnet":
        config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5)
        model = transformers.ResNetForImageClassification(config)
    else:
        config = transformers.ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            image_size=32,
            patch_size=8,
            num_labels=5,
        )
        model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path)
    preprocessing = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return tmp_path


def test_transformers_classifier_returns_logits_of_its_own_head(saved_transformer: Path) -> None:
    network = build(f"transformers:{saved_transformer}", 5)
    assert network.ready
    assert (network.mean, network.std, network.input_size) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 32)
    images = torch.rand(2, 3, 32, 32)
    network.eval()
    expected = network.body.get_submodule("model")(pixel_values=network.normalise(images)).logits
    assert torch.equal(network(images), expected)


def test_transformers_head_is_replaced_for_other_classes_and_says_so(saved_transformer: Path) -> None:
    one, same = (build(f"transformers:{saved_transformer}", 3, seed=4) for _ in range(2))
    assert not one.ready
    assert one(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


def gradient_of_directional_derivative(network: Classifier) -> torch.Tensor:
    weights = dict(network.named_parameters())
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    change = jvp(lambda p: functional_call(network, p, (images,)), (weights,), (weights,))[1]
    return torch.autograd.grad(change.square().sum(), images)[0]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch's own forward mode
def test_transformers_classifier_can_be_differentiated_forwards_and_twice(saved_transformer: Path) -> None:
    network = build(f"transformers:{saved_transformer}", 5).eval()
    gradient = gradient_of_directional_derivative(network)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    first = torch.autograd.grad(network(images).square().sum(), list(network.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in first), images)  # type: ignore[arg-type]
    assert second.isfinite().all()


def test_transformers_input_size_and_statistics_have_fallbacks(saved_transformer: Path) -> None:
    (saved_transformer / "preprocessor_config.json").unlink()
    network = build(f"transformers:{saved_transformer}", 5)
    assert network.mean == (0.485, 0.456, 0.406)
    assert build(f"transformers:{saved_transformer}", 5, input_size=64).input_size == 64


def test_transformers_name_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match="transformers cannot load an image classifier"):
        build(f"transformers:{tmp_path / 'absent'}", 5)


def test_untrained_transformers_classifier_has_the_shape_but_not_the_weights(saved_transformer: Path) -> None:
    published = build(f"transformers:{saved_transformer}", 5)
    one, same, other = (build(f"transformers-untrained:{saved_transformer}", 5, seed=seed) for seed in (1, 1, 2))
    assert not one.ready
    assert (one.mean, one.std, one.input_size) == (published.mean, published.std, published.input_size)
    shapes = {name: value.shape for name, value in published.state_dict().items()}
    assert {name: value.shape for name, value in one.state_dict().items()} == shapes
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    for network in (published, other):
        assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), network.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch's own forward mode
def test_untrained_transformers_classifier_needs_only_a_configuration(saved_transformer: Path) -> None:
    for path in saved_transformer.iterdir():
        if path.name != "config.json":
            path.unlink()
    network = build(f"transformers-untrained:{saved_transformer}", 3).eval()
    assert network.mean == (0.485, 0.456, 0.406)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert gradient_of_directional_derivative(network).isfinite().all()


def test_untrained_transformers_classifier_of_a_model_type(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    network = build("transformers-untrained:mobilenet_v2", 3, input_size=64).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert not network.ready


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_type", "Unrecognized model identifier: no_such_type"),
        ("bert", "Unrecognized configuration class"),
        ("someone/never-fetched", "."),
        ("absent/folder/somewhere", "."),
        ("", "."),
    ],
)
def test_untrained_transformers_name_that_does_not_fit(
    name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = f"cannot build an image classifier from '{name}': .*{problem}.*Expected a folder with a config.json or a"
    with pytest.raises(InvalidInput, match=expected) as caught:
        build(f"transformers-untrained:{name}", 5)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("library", "extra"), [("timm", "zoo"), ("transformers", "hub")])
@pytest.mark.parametrize("weights", ["", "-untrained"])
def test_absent_library_names_the_install_command(
    library: str, extra: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InvalidInput, match=rf"pip install 'withhold\[{extra}\]'"):
        build(f"{library}{weights}:resnet18", 5)


def test_timm_model_gets_a_head_of_the_right_size(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    create = timm.create_model

    def without_weights(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert pretrained  # the weights would be fetched
        model: nn.Module = create(name, num_classes=num_classes)
        return model

    monkeypatch.setattr(timm, "create_model", without_weights)
    network = build("timm:resnet18", 5).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert network.input_size == 224
    assert not network.ready


def test_untrained_timm_model_has_weights_of_the_seed() -> None:
    pytest.importorskip("timm", exc_type=ImportError)
    one, same, other = (build("timm-untrained:resnet18", 5, seed=seed).eval() for seed in (1, 1, 2))
    assert one(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert not one.ready
    assert torch.equal(one.body.get_parameter("fc.weight"), same.body.get_parameter("fc.weight"))
    assert not torch.equal(one.body.get_parameter("fc.weight"), other.body.get_parameter("fc.weight"))


@pytest.fixture
def stand_in_timm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace timm, which cannot be imported everywhere, by one function; return the list of how it was called."""
    calls: list[dict[str, Any]] = []

    def create_model(name: str, **how: Any) -> nn.Module:  # noqa: ANN401 - whatever is passed is checked
        calls.append(how)
        if name == "absent":
            msg = "Unknown model (absent)"
            raise RuntimeError(msg)
        model = nn.Sequential(nn.Flatten(), nn.Linear(48, how["num_classes"]))
        described = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "input_size": (3, 4, 4), "num_classes": 5}
        model.pretrained_cfg = described  # type: ignore[assignment]
        return model

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    return calls


@pytest.mark.parametrize(
    ("prefix", "classes", "ready"), [("timm", 5, True), ("timm", 3, False), ("timm-untrained", 5, False)]
)
def test_timm_is_asked_for_weights_only_where_they_are_wanted(
    stand_in_timm: list[dict[str, Any]], prefix: str, classes: int, ready: bool
) -> None:
    network = build(f"{prefix}:some", classes)
    assert stand_in_timm == [{"pretrained": prefix == "timm", "num_classes": classes}]
    assert network.ready is ready
    assert (network.mean, network.input_size) == ((0.5, 0.5, 0.5), 4)


@pytest.mark.usefixtures("stand_in_timm")
@pytest.mark.parametrize(("prefix", "listing"), [("timm", "pretrained=True"), ("timm-untrained", "")])
def test_timm_name_that_does_not_exist(prefix: str, listing: str) -> None:
    expected = rf"timm cannot load 'absent': Unknown model \(absent\)\. `timm\.list_models\({listing}\)` names"
    with pytest.raises(InvalidInput, match=expected):
        build(f"{prefix}:absent", 5)
