from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.lpips import Lpips

# (index in torchvision's features, out channels, in channels, kernel, stride, padding)
ALEXNET = [
    (0, 64, 3, 11, 4, 2),
    (3, 192, 64, 5, 1, 2),
    (6, 384, 192, 3, 1, 1),
    (8, 256, 384, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    found = {}
    for number, (index, outward, inward, kernel, _, _) in enumerate(ALEXNET):
        scale = (inward * kernel**2) ** -0.5
        found[f"features.{index}.weight"] = torch.randn(outward, inward, kernel, kernel, generator=draw) * scale
        found[f"features.{index}.bias"] = torch.randn(outward, generator=draw) * 0.1
        found[f"lin{number}.model.1.weight"] = torch.rand(1, outward, 1, 1, generator=draw)
    return found


def images(seed: int, count: int = 2, height: int = 35, width: int = 47) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, height, width)).astype(np.float32)


def convolved(images: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.asarray(np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[None, :, None, None])


def pooled(images: np.ndarray) -> np.ndarray:
    return np.asarray(np.lib.stride_tricks.sliding_window_view(images, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5)))


def formula(before: np.ndarray, after: np.ndarray, weights: dict[str, Tensor]) -> np.ndarray:
    """LPIPS 0.1 as its reference implementation states it, without PyTorch."""
    shift = np.array([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = np.array([0.458, 0.448, 0.450])[None, :, None, None]
    sides = [(2 * side.astype(np.float64) - 1 - shift) / scale for side in (before, after)]
    total = np.zeros(len(before))
    for number, (index, _, _, _, stride, padding) in enumerate(ALEXNET):
        if number in {1, 2}:
            sides = [pooled(side) for side in sides]
        weight, bias = (weights[f"features.{index}.{kind}"].double().numpy() for kind in ("weight", "bias"))
        sides = [np.maximum(convolved(side, weight, bias, stride, padding), 0) for side in sides]
        one, other = (side / (np.sqrt((side**2).sum(1, keepdims=True)) + 1e-10) for side in sides)
        channels = weights[f"lin{number}.model.1.weight"].double().numpy().reshape(1, -1, 1, 1)
        total += ((one - other) ** 2 * channels).sum(1).mean((1, 2))
    return total


def saved(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, path)
    return path


def test_it_is_the_formula(weights: dict[str, Tensor], tmp_path: Path) -> None:
    lpips = Lpips.load(saved(tmp_path / "lpips.pth", weights))
    before, after = images(0), images(1)
    found = lpips(torch.from_numpy(before), torch.from_numpy(after))
    expected = formula(before, after, weights)
    assert found.shape == (2,)
    assert expected.min() > 0.01
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_equal_pictures_have_no_distance_and_order_does_not_matter(weights: dict[str, Tensor], tmp_path: Path) -> None:
    lpips = Lpips.load(saved(tmp_path / "lpips.pth", weights))
    before, after = torch.from_numpy(images(0)), torch.from_numpy(images(1))
    assert (lpips(before, before) == 0).all()
    torch.testing.assert_close(lpips(before, after), lpips(after, before))


def test_grey_pictures_are_seen_as_colour(weights: dict[str, Tensor], tmp_path: Path) -> None:
    lpips = Lpips.load(saved(tmp_path / "lpips.pth", weights))
    before, after = (torch.from_numpy(images(seed))[:, :1] for seed in (0, 1))
    torch.testing.assert_close(lpips(before, after), lpips(before.expand(-1, 3, -1, -1), after.expand(-1, 3, -1, -1)))


def test_the_smallest_side_works_and_a_smaller_one_does_not() -> None:
    lpips = Lpips()
    side = Lpips.smallest
    assert lpips(*(torch.from_numpy(images(seed, 1, side, side)) for seed in (0, 1))).isfinite().all()
    with pytest.raises(RuntimeError):
        lpips(*(torch.from_numpy(images(seed, 1, side - 1, side)) for seed in (0, 1)))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("names", ["torchvision", "package"])
def test_all_forms_of_weights_files_are_read(
    weights: dict[str, Tensor], tmp_path: Path, suffix: str, names: str
) -> None:
    state = {**weights, "classifier.6.bias": torch.zeros(1000), "scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    if names == "package":
        slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
        for index, part in slices.items():
            for kind in ("weight", "bias"):
                state[f"net.slice{part}.{index}.{kind}"] = state.pop(f"features.{index}.{kind}")
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    found = Lpips.load(path)
    assert torch.equal(found.features[3].weight, weights["features.8.weight"])  # type: ignore[arg-type]
    assert torch.equal(found.linear[4].weight, weights["lin4.model.1.weight"])  # type: ignore[arg-type]


def test_missing_weights_are_named_with_what_is_expected(weights: dict[str, Tensor], tmp_path: Path) -> None:
    only = {name: value for name, value in weights.items() if not name.startswith("lin")}
    with pytest.raises(InvalidInput, match=r"lacks lin0\.model\.1\.weight.*features\.N\.weight.*state_dict"):
        Lpips.load(saved(tmp_path / "alexnet.pth", only))
    vgg = {name: torch.zeros(1) for name in weights}
    with pytest.raises(InvalidInput, match=r"and 11 more, or holds them in another shape"):
        Lpips.load(saved(tmp_path / "vgg.pth", vgg))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_code_is_not_run_and_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name in ("evil.pth", "text.safetensors", "text.pth", "list.pth", "missing.pth"):
        with pytest.raises(InvalidInput, match="Expected are the weights of LPIPS"):
            Lpips.load(tmp_path / name)
    assert capsys.readouterr().out == ""
