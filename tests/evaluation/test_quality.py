import io
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from withhold.data import drawing
from withhold.data.pixels import Picture as Pixels
from withhold.data.quality import psnr, ssim
from withhold.errors import InvalidInput
from withhold.evaluation import quality as module
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.quality import Pair, measure_pairs, pictures
from withhold.evaluation.results import LEAST_ALIKE, SAMPLED, PairQuality


def noisy(seed: int, shape: tuple[int, int, int] = (32, 32, 3), strength: int = 8) -> Pair:
    draw = np.random.default_rng(seed)
    levels = draw.integers(60, 190, shape, np.uint8)
    return Pixels(levels), Pixels((levels + draw.choice([-strength, strength], shape)).astype(np.uint8))


def opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_mixed_sizes_are_measured_as_each_pair_alone_and_keep_their_order() -> None:
    shapes = [(32, 32, 3), (40, 24, 3), (32, 32, 1), (32, 32, 3), (5, 9, 3)] * 3
    pairs = [noisy(seed, shape, strength=1 + seed) for seed, shape in enumerate(shapes)]
    found = measure_pairs([(f"{row}", f"c{row % 2}", *pair) for row, pair in enumerate(pairs)], None)
    assert [each.name for each in found] == [str(row) for row in range(len(pairs))]
    for row, (each, (before, after)) in enumerate(zip(found, pairs, strict=True)):
        assert each.label == f"c{row % 2}"
        assert each.psnr == psnr(before, after)
        assert each.ssim == pytest.approx(ssim([before], [after])[0], abs=2e-6)
        assert each.largest == 1 + row
        assert each.lpips is None


def test_few_pictures_are_held_whatever_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS_AT_A_TIME", 1000)
    monkeypatch.setattr(module, "HELD_PIXELS", 2000)
    alive: list[int] = []
    waiting: list[module._Waiting] = []
    created = module._Waiting

    def remember(lpips: Lpips | None) -> module._Waiting:
        waiting.append(created(lpips))
        return waiting[-1]

    def pairs() -> Iterator[tuple[str, str, Pixels, Pixels]]:
        for row in range(60):
            if waiting:
                alive.append(waiting[0].held)
            yield str(row), "c", *noisy(row, (8 + row % 20, 12, 3))

    monkeypatch.setattr(module, "_Waiting", remember)
    assert len(measure_pairs(pairs(), None)) == 60
    assert 0 < max(alive) <= 2000
    assert waiting[0].held == 0


def test_pixels_of_16_bit_are_measured_in_levels_of_8() -> None:
    before = Pixels(np.full((16, 16, 1), 257 * 100, np.uint16))
    after = Pixels(np.full((16, 16, 1), 257 * 104, np.uint16))
    (found,) = measure_pairs([("a", "b", before, after)], None)
    assert found.largest == 4
    assert found.psnr == pytest.approx(20 * np.log10(255 / 4))


def test_an_unchanged_pair_has_no_finite_psnr() -> None:
    before, _ = noisy(0)
    (found,) = measure_pairs([("a", "b", before, before)], None)
    assert (found.psnr, found.ssim, found.largest) == (float("inf"), 1.0, 0.0)


def test_pairs_of_different_shape_are_refused() -> None:
    with pytest.raises(InvalidInput, match="equal shape"):
        measure_pairs([("a", "b", noisy(0)[0], noisy(0, (16, 32, 3))[0])], None)


def test_lpips_is_left_out_for_pictures_that_are_too_small() -> None:
    torch.manual_seed(0)
    lpips = Lpips()
    pairs = [("large", "c", *noisy(0)), ("small", "c", *noisy(1, (30, 64, 3))), ("grey", "c", *noisy(2, (31, 33, 1)))]
    large, small, grey = measure_pairs(pairs, lpips)
    assert small.lpips is None
    assert grey.lpips is not None
    assert large.lpips == pytest.approx(float(lpips(*(torch.from_numpy(p.unit())[None] for p in noisy(0)))), abs=1e-6)


def measured(count: int, classes: int = 3) -> tuple[list[Pair], list[PairQuality]]:
    pairs = [noisy(row, strength=1 + (7 * row) % 13) for row in range(count)]
    return pairs, measure_pairs([(str(row), f"c{row % classes}", *pair) for row, pair in enumerate(pairs)], None)


def test_samples_come_first_one_of_each_class_then_the_least_alike() -> None:
    pairs, quality = measured(24)
    asked: list[int] = []

    def read(rows: Sequence[int]) -> list[Pair]:
        asked.extend(rows)
        return [pairs[row] for row in rows]

    found = pictures(quality, read, count=3, least_alike=2, seed=5)
    assert [each.chosen for each in found] == [SAMPLED] * 3 + [LEAST_ALIKE] * 2
    assert {each.quality.label for each in found[:3]} == {"c0", "c1", "c2"}
    worst = sorted(quality, key=lambda each: (each.ssim, each.psnr))[:2]
    assert [each.quality for each in found[3:]] == worst
    assert len(set(asked)) == 5
    again = pictures(quality, read, count=3, least_alike=2, seed=5)
    assert [each.original for each in again] == [each.original for each in found]
    others = [pictures(quality, read, count=3, least_alike=2, seed=seed) for seed in range(6, 12)]
    assert any([each.quality.name for each in other] != [each.quality.name for each in found] for other in others)


def test_lpips_decides_what_is_least_alike_where_every_pair_has_it() -> None:
    pairs, quality = measured(4)
    learnt = [PairQuality(q.name, q.label, q.psnr, q.ssim, 0.1 * row, q.largest) for row, q in enumerate(quality)]
    found = pictures(learnt, lambda rows: [pairs[row] for row in rows], count=0, least_alike=1)
    assert found[0].quality.name == "3"


def test_a_small_set_shows_each_pair_once() -> None:
    pairs, quality = measured(2)
    found = pictures(quality, lambda rows: [pairs[row] for row in rows], count=6, least_alike=3)
    assert sorted(each.quality.name for each in found) == ["0", "1"]


def test_small_pictures_are_drawn_exactly_and_differences_ten_times() -> None:
    pairs, quality = measured(1)
    (found,) = pictures(quality, lambda rows: [pairs[row] for row in rows], count=1, least_alike=0)
    before, after = pairs[0]
    assert found.size == (32, 32)
    assert np.array_equal(opened(found.original), before.levels)
    assert np.array_equal(opened(found.released), after.levels)
    expected = 127.5 + 10 * (after.levels.astype(float) - before.levels)
    assert np.abs(opened(found.difference) - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-3


def test_large_pictures_are_reduced_and_their_differences_are_not_averaged_away() -> None:
    before = Pixels(np.full((700, 1400, 3), 120, np.uint8))
    checks = np.indices((700, 1400)).sum(0) // 1 % 2 * 16 - 8
    after = Pixels((before.levels + checks[..., None]).astype(np.uint8))
    quality = measure_pairs([("a", "b", before, after)], None)
    (found,) = pictures(quality, lambda _: [(before, after)], count=1)
    assert found.size == (1400, 700)
    assert opened(found.original).shape == opened(found.difference).shape == (256, 512, 3)
    assert np.abs(opened(found.difference).astype(int) - 128).min() >= 79


def test_grey_deep_and_transparent_pictures_are_drawn() -> None:
    grey = noisy(0, (20, 20, 1))
    deep = Pixels(np.full((20, 20, 1), 65535, np.uint16)), Pixels(np.full((20, 20, 1), 65535 - 257, np.uint16))
    alpha = np.zeros((20, 20), np.uint8)
    clear = tuple(Pixels(each.levels, alpha) for each in noisy(1, (20, 20, 3)))
    pairs: list[Pair] = [grey, deep, (clear[0], clear[1])]
    quality = measure_pairs([(str(row), "c", *pair) for row, pair in enumerate(pairs)], None)
    found = {
        each.quality.name: each
        for each in pictures(quality, lambda rows: [pairs[row] for row in rows], count=3, least_alike=0)
    }
    assert np.array_equal(opened(found["0"].original), np.repeat(grey[0].levels, 3, 2))
    assert (opened(found["1"].original) == 255).all()
    assert (opened(found["1"].difference) < 127).all()
    assert (opened(found["2"].original) == drawing.PAPER).all()
    assert len(np.unique(opened(found["2"].difference))) > 1
