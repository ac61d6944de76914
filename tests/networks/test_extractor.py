import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import save
from withhold.networks.classifier import Classifier
from withhold.networks.extractor import Embedder, of_module, of_network, of_onnx, open_extractor, recogniser_from
from withhold.networks.head import classification_layer, features
from withhold.networks.margins import MarginHead
from withhold.networks.table import build

CPU = torch.device("cpu")


def levels(count: int, side: int = 4, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def first_pixels(images: Tensor) -> Tensor:
    """Embed by the first row: small, known, and never zero."""
    return images[:, 0, 0] + 0.5


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_embeddings_are_unit_vectors_in_the_order_of_the_images(count: int) -> None:
    extractor = Embedder("own", 4, first_pixels, batch=4)
    images = levels(count)
    expected = F.normalize(images[:, 0, 0].float() / 255 + 0.5)
    assert torch.equal(extractor.embed(images), expected)
    torch.testing.assert_close(extractor.embed(images), expected)
    assert extractor.embed(images.double() / 255).dtype == torch.float32
    torch.testing.assert_close(extractor.embed(images.double() / 255), expected)


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (levels(2, side=5), r"takes images of 4 x 4; got 5 x 5\. Align"),
        (levels(2)[:, :, :3], "takes images of 4 x 4; got 4 x 3"),
        (levels(2)[0], r"shape \(n, 1 or 3, h, w\); got shape \(3, 4, 4\)"),
        (levels(2, channels=4), r"got shape \(2, 4, 4, 4\)"),
        (levels(2)[:0], "one or more images"),
        (levels(2).float(), r"floats in \[0, 1\]; got torch.float32 from"),
        (levels(2).long(), "pixels as uint8"),
        (torch.full((1, 3, 4, 4), -0.1), r"from -0\.1"),
        (torch.full((1, 3, 4, 4), torch.nan), "from nan"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Tensor, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"own .*{problem}"):
        Embedder("own", 4, first_pixels).embed(images)


def one_broken(value: float) -> Any:  # noqa: ANN401 - a function
    def run(images: Tensor) -> Tensor:
        embeddings = first_pixels(images)
        embeddings[-1] = value
        return embeddings

    return run


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (one_broken(torch.nan), "gave 1 of 3 embeddings that are not finite"),
        (one_broken(torch.inf), "gave 1 of 3 embeddings that are not finite"),
        (one_broken(0), "all zero"),
        (lambda images: images, r"must map 3 images to a tensor \(3, d\) of embeddings; got \(3, 3, 4, 4\)"),
        (lambda images: first_pixels(images)[:2], r"got \(2, 4\)"),
        (lambda images: (first_pixels(images),), "got tuple"),
        (nn.Linear(5, 2), r"cannot embed images of shape \(3, 3, 4, 4\): mat1 and mat2"),
    ],
)
def test_extractors_that_go_wrong_are_named(run: Any, problem: str) -> None:  # noqa: ANN401 - a function
    with pytest.raises(InvalidInput, match=problem):
        Embedder("own", None, run).embed(levels(3))


def test_network_embeds_by_what_its_classification_layer_reads_in_evaluation_mode() -> None:
    network = build("iresnet10-narrow", 3, input_size=32, head="arcface").train()
    extractor = of_network(network)
    images = levels(5, side=32)
    expected = F.normalize(features(network.eval(), images.float() / 255))
    torch.testing.assert_close(extractor.embed(images), expected)
    assert (extractor.name, extractor.input_size) == ("iresnet10-narrow", 32)
    assert not extractor.embed(images).requires_grad


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Classifier]:
    network = build("iresnet10-narrow", 3, input_size=32, head="cosface", seed=5).eval()
    save(tmp_path / "faces.safetensors", [network])
    return tmp_path / "faces.safetensors", network


def test_weights_file_is_a_judge_whatever_its_number_of_classes(weights: tuple[Path, Classifier]) -> None:
    path, network = weights
    extractor = open_extractor(str(path), device=CPU)
    images = levels(3, side=32)
    assert torch.equal(extractor.embed(images), of_network(network).embed(images))
    assert extractor.name == "faces.safetensors"


def test_weights_file_becomes_a_recogniser_of_other_identities(weights: tuple[Path, Classifier]) -> None:
    path, network = weights
    again = recogniser_from(str(path), 9, input_size=32, head="arcface", seed=1).eval()
    images = levels(2, side=32).float() / 255
    assert torch.equal(features(again, images), features(network, images))
    assert (again.classes, again.head, again.ready, again(images).shape) == (9, "arcface", False, (2, 9))
    with pytest.raises(InvalidInput, match="takes images of 32 px; the images have 48 px"):
        recogniser_from(str(path), 9, input_size=48)


OWN = """
from torch import nn

def embedding():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5))

def no_network():
    return 3

def asks(classes):
    return nn.Identity()
"""


@pytest.fixture
def own_extractors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_extractors_of_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_extractors")
def test_own_function_as_judge_and_as_surrogate() -> None:
    extractor = open_extractor("own_extractors_of_test:embedding", device=CPU)
    assert extractor.embed(levels(3)).shape == (3, 5)
    network = recogniser_from("own_extractors_of_test:embedding", 7, input_size=4, head="cosface").eval()
    images = levels(3).float() / 255
    assert network(images).shape == (3, 7)
    assert isinstance(classification_layer(network)[1], MarginHead)
    assert features(network, images).shape == (3, 5)
    assert (network.architecture, network.ready) == ("own_extractors_of_test:embedding", False)
    assert torch.equal(network.normalise(images), images)
    with pytest.raises(InvalidInput, match="cannot embed"):
        recogniser_from("own_extractors_of_test:embedding", 7, input_size=8)


@pytest.mark.usefixtures("own_extractors")
def test_network_is_built_over_an_extractor_by_name(weights: tuple[Path, Classifier]) -> None:
    path, known = weights
    of_file = build(f"extractor:{path}", 5, default_size=32).eval()
    images = levels(2, side=32).float() / 255
    assert torch.equal(features(of_file, images), features(known, images))
    assert (of_file.head, of_file.classes, of_file.ready, of_file.input_size) == ("softmax", 5, False, 32)
    own = build("extractor:own_extractors_of_test:embedding", 7, input_size=4, head="cosface", seed=2).eval()
    same = build("extractor:own_extractors_of_test:embedding", 7, input_size=4, head="cosface", seed=2).eval()
    images = levels(3).float() / 255
    assert own(images).shape == (3, 7)
    assert torch.equal(own(images), same(images))


@pytest.mark.usefixtures("own_extractors")
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("own_extractors_of_test:absent", "cannot import 'own_extractors_of_test:absent'"),
        ("own_extractors_of_test:no_network", "must return a torch.nn.Module .*; it returned int"),
        ("own_extractors_of_test:asks", "must be callable without arguments"),
        ("absent.safetensors", r"no file absent.safetensors; a recogniser is a weights file .*\.onnx file, or module:"),
    ],
)
def test_sources_that_cannot_be_used(source: str, problem: str) -> None:
    for use in (lambda: open_extractor(source, device=CPU), lambda: recogniser_from(source, 3, input_size=4)):
        with pytest.raises(InvalidInput, match=problem):
            use()


MATRIX = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)


def write_onnx(
    path: Path, shape: tuple[int | str, ...] = ("n", 3, 4, 4), kind: int = onnx.TensorProto.FLOAT, inputs: int = 1
) -> Path:
    """Write flatten(x) @ MATRIX."""
    names = [f"input{index}" for index in range(inputs)]
    nodes = [
        onnx.helper.make_node("Cast", [names[0]], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["cast"], ["flat"], axis=1),
        onnx.helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "extractor",
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name in names],
        [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, (shape[0], 5))],
        [onnx.numpy_helper.from_array(MATRIX, "matrix")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_onnx_file_scores(tmp_path: Path, batch: int | str, channels: int) -> None:
    path = write_onnx(tmp_path / "faces.onnx", (batch, 3, 4, 4))
    extractor = open_extractor(str(path), device=CPU)
    images = levels(6, channels=channels)
    pixels = (images.float() / 255).expand(-1, 3, -1, -1)
    expected = F.normalize((2 * pixels - 1).flatten(1) @ torch.from_numpy(MATRIX))
    torch.testing.assert_close(extractor.embed(images), expected)
    assert (extractor.name, extractor.input_size) == ("faces.onnx", 4)


def test_onnx_file_that_takes_pixels_as_they_are(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "faces.onnx", ("n", 3, "h", "w"))
    extractor = of_onnx(path, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = F.normalize((levels(2).float() / 255).flatten(1) @ torch.from_numpy(MATRIX))
    torch.testing.assert_close(extractor.embed(levels(2)), expected)
    assert extractor.input_size is None
    with pytest.raises(InvalidInput, match=r"cannot embed images of shape \(2, 3, 5, 5\)"):
        extractor.embed(levels(2, side=5))


@pytest.mark.parametrize(
    "how",
    [
        {"shape": ("n", 4, 4, 3)},
        {"shape": ("n", 3, 2, 8)},
        {"shape": ("n", 48)},
        {"kind": onnx.TensorProto.FLOAT16},
        {"inputs": 2},
    ],
)
def test_onnx_files_of_other_networks_are_refused(tmp_path: Path, how: dict[str, Any]) -> None:
    path = write_onnx(tmp_path / "other.onnx", **how)
    with pytest.raises(
        InvalidInput, match=r"other.onnx must have one input of float32 \(n, 3, side, side\).*it has input0"
    ):
        of_onnx(path)


def test_onnx_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"no ONNX file .*absent\.onnx"):
        of_onnx(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(InvalidInput, match=r"onnxruntime cannot read .*broken"):
        of_onnx(tmp_path / "broken.onnx")
    with pytest.raises(InvalidInput, match="can only score"):
        recogniser_from(str(tmp_path / "broken.onnx"), 3, input_size=4)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InvalidInput, match=r"pip install 'withhold\[onnx\]'"):
        of_onnx(tmp_path / "broken.onnx")


def test_own_module_is_put_into_evaluation_mode() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5)).train()
    extractor = of_module(module, "own", device=CPU)
    assert torch.equal(extractor.embed(levels(2)), extractor.embed(levels(2)))
