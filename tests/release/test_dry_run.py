from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.release.fakes import CLASSES, UniformCrafter, class_folders, make_uniform, pixels, png, settings, tree
from torch import nn

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import save
from withhold.networks.choose import Sizes
from withhold.networks.table import build
from withhold.release.building import CleanImages, build_crafter, fingerprint, sizes_of
from withhold.release.crafter import EVERY_CLASS
from withhold.release.dry_run import Prepared, dry_run, estimate
from withhold.release.materials import Materials
from withhold.release.run import protect, run


class Linear(nn.Module):
    """The smallest classifier of 12 x 12 pictures."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(len(CLASSES), 3 * 12 * 12, generator=generator) / 20)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight.T


def fake(_: Materials) -> Prepared:
    return Prepared(lambda _: UniformCrafter(8 / 255), None)


def test_an_estimate_states_the_plan_and_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "notes.txt").write_text("x")
    before = tree(tmp_path)
    found = estimate(source, tmp_path / "out", settings(), fake)
    assert tree(tmp_path) == before
    assert (found.layout, found.images, found.classes, found.batches, found.largest_batch) == ("folder", 12, 3, 3, 4)
    assert found.ignored == ("cat/notes.txt",)
    assert found.training_seconds is None
    assert found.crafting_seconds >= 0
    run(source, tmp_path / "out", settings(), make_uniform)
    released = sum(len(content) for name, content in tree(tmp_path / "out").items() if name.endswith("png"))
    assert found.release_bytes == pytest.approx(released, rel=0.1)
    assert found.disk_bytes == found.release_bytes


def test_shards_need_room_for_a_second_copy(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(pixels(index)), "path": "a.png"}, "label": index % 3} for index in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    found = estimate(tmp_path / "in.parquet", tmp_path / "out", settings(), fake)
    assert found.disk_bytes == 2 * found.release_bytes > 0


def test_an_estimate_refuses_what_a_run_would_refuse(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"cat/bad\.png"):
        estimate(source, tmp_path / "out", settings(), fake)
    with pytest.raises(InvalidInput, match="is the source"):
        estimate(source, source, settings(), fake)


def test_a_dry_run_times_the_training_of_a_surrogate(source: Path, tmp_path: Path) -> None:
    found = dry_run(source, tmp_path / "out", settings(steps=2, epochs=3))
    assert found.training_seconds is not None
    assert found.training_seconds > 0
    assert found.crafting_seconds > 0
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_a_dry_run_with_a_given_network_trains_nothing(source: Path, tmp_path: Path) -> None:
    found = dry_run(source, tmp_path / "out", settings(steps=2, input_size=12), surrogate=Linear())
    assert found.training_seconds is None


@pytest.mark.parametrize("direction", ["dataset", "batch", "class"])
def test_a_given_network_protects_a_set(source: Path, tmp_path: Path, direction: str) -> None:
    chosen = settings(steps=2, input_size=12, objective="alignment", direction=direction)
    report = protect(source, tmp_path / "out", chosen, surrogate=Linear())
    assert report.verification.passed
    assert report.quality.sign_agreement is not None


def test_a_trained_surrogate_stays_in_the_private_folder(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", side=16)
    report = protect(source, tmp_path / "out", settings(steps=2, epochs=1))
    assert report.verification.passed
    assert (report.sidecar / "surrogate.safetensors").is_file()
    assert {Path(name).suffix for name in tree(tmp_path / "out")} == {".png", ".json"}


def test_another_network_does_not_resume_the_run(source: Path, tmp_path: Path) -> None:
    chosen = settings(steps=1, input_size=12)
    protect(source, tmp_path / "out", chosen, surrogate=Linear())
    assert protect(source, tmp_path / "out", chosen, surrogate=Linear()).crafted == 0
    with pytest.raises(InvalidInput, match="surrogate's weights"):
        protect(source, tmp_path / "out", chosen, surrogate=Linear(seed=1))


def test_a_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    assert fingerprint(settings(), None) is None
    assert fingerprint(settings(), Linear()) == fingerprint(settings(), Linear()) != fingerprint(settings(), Linear(1))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"abc")
    first = fingerprint(settings(surrogate=str(weights)), None)
    weights.write_bytes(b"abd")
    assert None is not first != fingerprint(settings(surrogate=str(weights)), None)


def test_a_fingerprint_follows_the_weights_of_an_extractor(tmp_path: Path) -> None:
    def stored(seed: int) -> str | None:
        save(tmp_path / "own.safetensors", [build("iresnet10-narrow", 3, input_size=16, seed=seed)])
        return fingerprint(settings(surrogate=f"extractor:{tmp_path / 'own.safetensors'}"), None)

    assert None is not stored(1) == stored(1) != stored(2)


def test_clean_images_come_by_class_or_all_together(source: Path, tmp_path: Path) -> None:
    seen: list[Materials] = []

    def make(materials: Materials) -> UniformCrafter:
        seen.append(materials)
        return make_uniform(materials)

    run(source, tmp_path / "out", settings(), make)
    clean = CleanImages(seen[0].dataset, seen[0].plan)
    labels = [label for _, each in clean(EVERY_CLASS) for label in each]
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
    pictures = [picture for some, each in clean(1) for picture in some if set(each) == {1}]
    assert {picture.levels.tobytes() for picture in pictures} == {pixels(100 + index).tobytes() for index in range(4)}
    assert sizes_of(seen[0].plan) == Sizes(12, 12)


def test_whole_views_of_pictures_of_several_sizes_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "wide.png").write_bytes(png(pixels(3, 12, 20)))
    with pytest.raises(InvalidInput, match="Use crop"):
        run(
            source,
            tmp_path / "out",
            settings(augment="shift", input_size=12),
            lambda materials: build_crafter(materials, Linear()),
        )
    assert np.all([path.name != "out" for path in tmp_path.iterdir()])
