import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import Metadata, encode, load, save
from withhold.networks.classifier import Classifier
from withhold.networks.table import build
from withhold.networks.training import accuracy

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> Classifier:
    built = build("resnet9", 3, input_size=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), seed=7)
    built(IMAGES)  # gives the norms a history of their own
    return built.eval()


def state_of(network: Classifier) -> dict[str, torch.Tensor]:
    return network.body.state_dict()


def test_round_trip_needs_nothing_but_the_file(network: Classifier, tmp_path: Path) -> None:
    save(tmp_path / "new" / "w.safetensors", [network], accuracy=0.75, details={"epochs": 12})
    loaded = load(tmp_path / "new" / "w.safetensors", classes=3)
    (again,) = loaded.networks
    assert torch.equal(again(IMAGES), network(IMAGES))
    assert not again.training
    assert again.ready
    assert loaded.metadata is not None
    assert (loaded.metadata.accuracy, loaded.metadata.details) == (0.75, {"epochs": 12})
    assert again.mean == pytest.approx((0.1, 0.2, 0.3))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("head", ["cosface", "arcface"])
def test_head_and_number_of_classes_are_what_the_file_says(head: str, tmp_path: Path) -> None:
    network = build("iresnet10-narrow", 3, input_size=32, head=head).eval()
    save(tmp_path / "w.safetensors", [network])
    loaded = load(tmp_path / "w.safetensors", classes=None)
    (again,) = loaded.networks
    assert (again.classes, again.head, again.input_size) == (3, head, 32)
    assert torch.equal(again(IMAGES), network(IMAGES))
    logits, labels = network(IMAGES), torch.tensor([0, 1, 2, 0])
    assert torch.equal(again.margin(logits, labels), network.margin(logits, labels))
    assert not torch.equal(again.margin(logits, labels), logits)
    assert loaded.metadata is not None
    # Files from before there were heads do not name theirs.
    assert Metadata.model_validate(loaded.metadata.model_dump(exclude={"head"})).head == "softmax"


def test_a_head_of_another_kind_than_the_files_is_refused(network: Classifier, tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", [network])
    with pytest.raises(InvalidInput, match=r"tensors are unexpected \(linear\.bias\)"):
        load(tmp_path / "w.safetensors", classes=3, head="arcface")


def test_foreign_files_do_not_say_their_number_of_classes(network: Classifier, tmp_path: Path) -> None:
    torch.save(state_of(network), tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match="does not say how many classes its weights distinguish"):
        load(tmp_path / "w.pt", classes=None, architecture="resnet9")


def test_snapshots_come_back_in_order(tmp_path: Path) -> None:
    networks = [build("resnet9", 3, seed=seed).eval() for seed in (1, 2)]
    save(tmp_path / "w.safetensors", networks)
    again = load(tmp_path / "w.safetensors", classes=3).networks
    assert [torch.equal(a(IMAGES), b(IMAGES)) for a, b in zip(again, networks, strict=True)] == [True, True]
    assert not torch.equal(again[0](IMAGES), again[1](IMAGES))


def test_equal_networks_give_equal_bytes_whatever_their_memory_format(network: Classifier) -> None:
    same = build("resnet9", 3, input_size=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)).to(
        memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    same.load_state_dict(network.state_dict())
    assert encode([network]) == encode([same])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "body.", "module.body."])
def test_foreign_state_dicts(
    network: Classifier, tmp_path: Path, suffix: str, wrapper: str | None, prefix: str
) -> None:
    state = {prefix + name: value for name, value in state_of(network).items()}
    content: Any = {wrapper: state, "epoch": 3} if wrapper else state
    torch.save(content, tmp_path / f"w{suffix}")
    loaded = load(tmp_path / f"w{suffix}", classes=3, architecture="resnet9", mean=network.mean, std=network.std)
    assert loaded.metadata is None
    assert torch.equal(loaded.networks[0](IMAGES), network(IMAGES))


def test_foreign_safetensors_and_files_without_batch_counters(network: Classifier, tmp_path: Path) -> None:
    state = {name: value for name, value in state_of(network).items() if "num_batches" not in name}
    safetensors.torch.save_file(state, tmp_path / "w.bin")
    loaded = load(tmp_path / "w.bin", classes=3, architecture="resnet9", mean=network.mean, std=network.std)
    assert torch.equal(loaded.networks[0](IMAGES), network(IMAGES))


def test_foreign_files_need_an_architecture(network: Classifier, tmp_path: Path) -> None:
    torch.save(state_of(network), tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match="name it with --architecture"):
        load(tmp_path / "w.pt", classes=3)


def refused(tmp_path: Path, state: object, *, architecture: str = "resnet9", classes: int = 3) -> str:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path / "w.pt", classes=classes, architecture=architecture)
    return str(caught.value)


def test_missing_and_unexpected_tensors_are_counted_and_some_named(network: Classifier, tmp_path: Path) -> None:
    state = state_of(network)
    del state["linear.bias"]
    state["stranger"] = torch.zeros(1)
    message = refused(tmp_path, state)
    assert "1 tensors are missing (linear.bias) and 1 tensors are unexpected (stranger)" in message


def test_long_lists_are_cut(tmp_path: Path) -> None:
    message = refused(tmp_path, {f"t{index}": torch.zeros(1) for index in range(9)})
    assert "9 tensors are unexpected (t0, t1, t2, ...)" in message


def test_wrong_number_of_classes(network: Classifier, tmp_path: Path) -> None:
    assert "distinguish 3 classes, the dataset has 10" in refused(tmp_path, state_of(network), classes=10)
    save(tmp_path / "w.safetensors", [network])
    with pytest.raises(InvalidInput, match="distinguish 3 classes, the dataset has 10"):
        load(tmp_path / "w.safetensors", classes=10)


def test_wrong_shapes(network: Classifier, tmp_path: Path) -> None:
    state = state_of(network)
    state["features.0.conv.weight"] = torch.zeros(16, 1, 3, 3)
    message = refused(tmp_path, state)
    assert "features.0.conv.weight should be (16, 3, 3, 3) and is (16, 1, 3, 3)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(network: Classifier, tmp_path: Path, value: float) -> None:
    state = state_of(network)
    state["linear.weight"][0, 0] = value
    assert "not finite, in linear.weight" in refused(tmp_path, state)


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, legacy: bool) -> None:
    marker = tmp_path / "marker"
    torch.save({"state_dict": RunsCode(marker)}, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InvalidInput, match="holds code or whole Python objects, which are never run"):
        load(tmp_path / "w.pt", classes=3, architecture="resnet9")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a weights file at all", pickle.dumps([1, 2]), b"PK\x03\x04damaged"])
def test_files_that_hold_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"w\.pt"):
        load(tmp_path / "w.pt", classes=3, architecture="resnet9")


@pytest.mark.parametrize("content", [{}, [torch.zeros(1)], {"a": 1}, torch.zeros(3)])
def test_content_that_is_no_state_dict(tmp_path: Path, content: object) -> None:
    assert "must hold a state dict" in refused(tmp_path, content)


def test_truncated_files(network: Classifier, tmp_path: Path) -> None:
    whole = encode([network])
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="not a complete safetensors file"):
        load(tmp_path / "w.safetensors", classes=3)
    buffer = io.BytesIO()
    torch.save(state_of(network), buffer)
    (tmp_path / "w.pt").write_bytes(buffer.getvalue()[:-1000])
    with pytest.raises(InvalidInput, match="not a complete PyTorch weights file"):
        load(tmp_path / "w.pt", classes=3, architecture="resnet9")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no weights file"):
        load(tmp_path / "w.pt", classes=3)


def test_a_file_cannot_make_us_import_what_it_names(network: Classifier, tmp_path: Path) -> None:
    network.architecture = "antigravity:fly"
    save(tmp_path / "w.safetensors", [network])
    with pytest.raises(InvalidInput, match="if you trust it, name it with --architecture"):
        load(tmp_path / "w.safetensors", classes=3)


def test_damaged_description(network: Classifier, tmp_path: Path) -> None:
    safetensors.torch.save_file(state_of(network), tmp_path / "w.safetensors", {"withhold": "{}"})
    with pytest.raises(InvalidInput, match="not a complete safetensors file"):
        load(tmp_path / "w.safetensors", classes=3)


def test_resnet20_of_others_recognises_cifar_images(shared_data: Path) -> None:
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    with Image.open(shared_data / "cifar10" / "test-00.avif") as mosaic:
        pixels = torch.from_numpy(np.asarray(mosaic.convert("RGB")).copy())
    rows = pixels.unfold(0, 32, 32).unfold(1, 32, 32)  # (50, 50, 3, 32, 32)
    images = rows.reshape(-1, 3, 32, 32)[:500]
    labels = torch.from_numpy(np.load(shared_data / "cifar10" / "test-labels.npy"))[:500].long()
    (network,) = load(shared_data / "weights" / "resnet20-12fca82f.th", classes=10, architecture="resnet20").networks
    assert accuracy(network, images, labels) > 0.85
