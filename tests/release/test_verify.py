import io
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.release.fakes import Listener, class_folders, make_uniform, pixels, png, settings, tree

from withhold.errors import InvalidInput
from withhold.release.run import run
from withhold.release.verify import Offender, Verification, verify


def jpeg(levels: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(levels).save(target, "JPEG", quality=95)
    return target.getvalue()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source of RGB, JPEG, RGBA, greyscale and 16-bit pictures, and its flawless release."""
    root = tmp_path_factory.mktemp("pair")
    source = class_folders(root / "in", 2)
    (source / "cat" / "photo.jpg").write_bytes(jpeg(pixels(7)))
    Image.fromarray(pixels(8, channels=4)).save(source / "dog" / "alpha.png")
    (source / "owl" / "grey.png").write_bytes(png(pixels(9, channels=1)))
    Image.fromarray(pixels(10)[..., 0].astype(np.uint16) * 257).save(source / "owl" / "deep.png")
    run(source, root / "out", settings(), make_uniform)
    return source, root / "out"


@pytest.fixture
def broken(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the release to break."""
    return Path(shutil.copytree(pair[1], tmp_path / "out"))


def load(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def store(path: Path, levels: np.ndarray) -> None:
    Image.fromarray(levels).save(path)


def test_a_flawless_release_passes(pair: tuple[Path, Path]) -> None:
    listener = Listener()
    found = verify(*pair, reporter=listener)
    assert found == Verification(10, 10, (), (), 8.0, 8, Fraction(8, 255), "release.json")
    assert found.passed
    assert listener.tasks == [("Verifying", 10)]


def one_pixel_beyond(source: Path, release: Path) -> None:
    levels = load(source / "cat" / "0.png").copy()
    levels[3, 4, 1] += 9
    store(release / "cat" / "0.png", levels)


def one_deep_pixel_beyond(source: Path, release: Path) -> None:
    levels = load(source / "owl" / "deep.png").astype(np.uint16)
    levels[0, 0] += 8 * 257 + 1
    store(release / "owl" / "deep.png", levels)


def swapped_classes(_: Path, release: Path) -> None:
    cat, dog = release / "cat" / "0.png", release / "dog" / "0.png"
    content = cat.read_bytes()
    cat.write_bytes(dog.read_bytes())
    dog.write_bytes(content)


def missing(_: Path, release: Path) -> None:
    (release / "dog" / "1.png").unlink()


def extra(_: Path, release: Path) -> None:
    shutil.copy(release / "dog" / "1.png", release / "dog" / "9.png")


def renamed(_: Path, release: Path) -> None:
    (release / "dog" / "1.png").rename(release / "dog" / "one.png")


def moved_to_another_class(_: Path, release: Path) -> None:
    (release / "dog" / "1.png").rename(release / "cat" / "7.png")


def resized(_: Path, release: Path) -> None:
    store(release / "owl" / "0.png", load(release / "owl" / "0.png")[:, :11])


def another_mode(_: Path, release: Path) -> None:
    store(release / "owl" / "grey.png", np.repeat(load(release / "owl" / "grey.png")[..., None], 3, axis=2))


def fewer_bits(_: Path, release: Path) -> None:
    store(release / "owl" / "deep.png", (load(release / "owl" / "deep.png") // 257).astype(np.uint8))


def alpha_changed(_: Path, release: Path) -> None:
    levels = load(release / "dog" / "alpha.png").copy()
    levels[5, 5, 3] ^= 1
    store(release / "dog" / "alpha.png", levels)


def alpha_dropped(_: Path, release: Path) -> None:
    store(release / "dog" / "alpha.png", load(release / "dog" / "alpha.png")[..., :3])


def unchanged(source: Path, release: Path) -> None:
    shutil.copy(source / "owl" / "1.png", release / "owl" / "1.png")


def truncated(_: Path, release: Path) -> None:
    path = release / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])


def original_left_over(source: Path, release: Path) -> None:
    shutil.copy(source / "cat" / "photo.jpg", release / "cat" / "photo.jpg")


def stray_file(_: Path, release: Path) -> None:
    (release / "manifest.parquet.bak").write_bytes(b"secret")


def class_renamed(_: Path, release: Path) -> None:
    (release / "owl").rename(release / "zoo")


def wrong_count_stated(_: Path, release: Path) -> None:
    content = json.loads((release / "release.json").read_bytes())
    (release / "release.json").write_text(json.dumps({**content, "images": 11}))


MISSING, EXTRA = "is missing from the release", "is in the release, but not in the source"

FAULTS: list[tuple[Callable[[Path, Path], None], list[tuple[str, str]]]] = [
    (one_pixel_beyond, [("cat/0.png", "changed by 9 levels, allowed are 8")]),
    (one_deep_pixel_beyond, [("owl/deep.png", "changed by 8.00389 levels, allowed are 8")]),
    (swapped_classes, [("cat/0.png", "levels, allowed are 8"), ("dog/0.png", "levels, allowed are 8")]),
    (missing, [("release.json", "states images 10, found 9"), ("dog/1.png", MISSING)]),
    (extra, [("release.json", "states images 10, found 11"), ("dog/9.png", EXTRA)]),
    (renamed, [("dog/1.png", MISSING), ("dog/one.png", EXTRA)]),
    (moved_to_another_class, [("dog/1.png", MISSING), ("cat/7.png", EXTRA)]),
    (resized, [("owl/0.png", "is 12 x 12 pixels in the source, 11 x 12 in the release")]),
    (another_mode, [("owl/grey.png", "has mode L in the source, RGB in the release")]),
    (fewer_bits, [("owl/deep.png", "has mode I;16 in the source, L in the release")]),
    (alpha_changed, [("dog/alpha.png", "changed in its alpha channel")]),
    (alpha_dropped, [("dog/alpha.png", "has mode RGBA in the source, RGB in the release")]),
    (unchanged, [("owl/1.png", "is unchanged, and so unprotected")]),
    (truncated, [("cat/1.png", "is unreadable in the release")]),
    (stray_file, [("manifest.parquet.bak", "is in the release, but is no image of it")]),
    (wrong_count_stated, [("release.json", "states images 11, found 10")]),
]


@pytest.mark.parametrize(("break_it", "expected"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_each_fault_is_found_and_nothing_else(
    break_it: Callable[[Path, Path], None], expected: list[tuple[str, str]], pair: tuple[Path, Path], broken: Path
) -> None:
    break_it(pair[0], broken)
    found = verify(pair[0], broken)
    assert not found.passed
    assert [offender.name for offender in found.offenders] == [name for name, _ in expected]
    for offender, (_, problem) in zip(found.offenders, expected, strict=True):
        assert problem in offender.problem


def test_an_original_beside_its_released_image_is_found(pair: tuple[Path, Path], broken: Path) -> None:
    original_left_over(pair[0], broken)
    found = verify(pair[0], broken)
    assert Offender("cat/photo.jpg", EXTRA) in found.offenders


def test_a_renamed_class_names_the_class_and_its_images(pair: tuple[Path, Path], broken: Path) -> None:
    class_renamed(pair[0], broken)
    found = verify(pair[0], broken)
    assert found.offenders[0] == Offender("classes", "'zoo' is not a class of the source, or not at its place")
    assert [each.name for each in found.offenders[1:] if each.problem == MISSING] == [
        "owl/0.png",
        "owl/1.png",
        "owl/deep.png",
        "owl/grey.png",
    ]


def test_every_offender_is_named(pair: tuple[Path, Path]) -> None:
    found = verify(pair[0], pair[0])
    unprotected = [each.name for each in found.offenders if each.problem == "is unchanged, and so unprotected"]
    assert len(unprotected) == 9  # the JPEG has no released name here
    assert found.largest_change == 0


def test_the_bound_comes_from_the_caller_then_the_release_then_the_default(
    pair: tuple[Path, Path], broken: Path
) -> None:
    strict = verify(*pair, eps=Fraction(7, 255))
    assert (strict.bound, strict.bound_from, len(strict.offenders)) == (7, "argument", 10)
    content = json.loads((broken / "release.json").read_bytes())
    (broken / "release.json").write_text(json.dumps({**content, "eps": "7/255"}))
    stated = verify(pair[0], broken)
    assert (stated.bound, stated.bound_from, len(stated.offenders)) == (7, "release.json", 10)
    (broken / "release.json").unlink()
    default = verify(pair[0], broken)
    assert (default.bound, default.bound_from, default.offenders) == (8, "default", ())


def test_a_meaningless_release_json_is_refused(pair: tuple[Path, Path], broken: Path) -> None:
    (broken / "release.json").write_text('{"eps": "8"}')
    with pytest.raises(InvalidInput, match="did you mean 8/255"):
        verify(pair[0], broken)


def test_another_layout_is_an_offence(pair: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(pixels(index)), "path": "a.png"}, "label": index} for index in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "all.parquet")
    found = verify(pair[0], tmp_path)
    assert Offender("layout", "is folder in the source, parquet in the release") in found.offenders


def test_an_unreadable_source_image_is_skipped_only_if_it_is_absent(
    pair: tuple[Path, Path], broken: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(pair[0], tmp_path / "in"))
    bad = source / "cat" / "bad.png"
    bad.write_bytes((source / "cat" / "0.png").read_bytes()[:60])
    found = verify(source, broken)
    assert found.skipped == ("cat/bad.png",)
    assert found.passed
    shutil.copy(bad, broken / "cat" / "bad.png")
    (offender,) = (each for each in verify(source, broken).offenders if each.name == "cat/bad.png")
    assert offender.problem.startswith("cannot be compared, the source image is unreadable")


def test_lossless_webp_releases_are_paired_by_their_names(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for index in range(4):
        (source / f"class{index % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"class{index % 2}" / f"{index}.jpg").write_bytes(jpeg(pixels(index)))
    run(source, tmp_path / "out", settings(lossless="webp"), make_uniform)
    assert "class0/0.webp" in tree(tmp_path / "out")
    assert verify(source, tmp_path / "out").passed


def parquet(path: Path, rows: list[tuple[bytes, int]]) -> Path:
    content = [{"image": {"bytes": stored, "path": "a.png"}, "label": label} for stored, label in rows]
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), path)
    return path


def rows_of(path: Path) -> list[tuple[bytes, int]]:
    return [(row["image"]["bytes"], row["label"]) for row in pq.read_table(path).to_pylist()]


def test_labels_and_order_of_rows_are_compared(tmp_path: Path) -> None:
    source = parquet(tmp_path / "in" / "all.parquet", [(png(pixels(index)), index % 2) for index in range(6)])
    run(source.parent, tmp_path / "out", settings(), make_uniform)
    rows = rows_of(tmp_path / "out" / "all.parquet")
    swapped = [(rows[0][0], rows[1][1]), (rows[1][0], rows[0][1]), *rows[2:]]
    parquet(tmp_path / "labels" / "all.parquet", swapped)
    assert verify(source.parent, tmp_path / "labels").offenders == (
        Offender("all.parquet#0", "has the class '0' in the source, '1' in the release"),
        Offender("all.parquet#1", "has the class '1' in the source, '0' in the release"),
    )
    parquet(tmp_path / "order" / "all.parquet", [rows[0], rows[3], rows[2], rows[1], *rows[4:]])
    assert [each.name for each in verify(source.parent, tmp_path / "order").offenders] == [
        "all.parquet#1",
        "all.parquet#3",
    ]


def test_rows_behind_a_skipped_one_move_up(tmp_path: Path) -> None:
    contents = [png(pixels(index)) for index in range(7)]
    contents[2] = contents[2][:50]
    source = parquet(tmp_path / "in" / "all.parquet", [(each, index % 2) for index, each in enumerate(contents)])
    report = run(source.parent, tmp_path / "out", settings(skip_unreadable=True), make_uniform)
    assert report.skipped == ("all.parquet#2",)
    found = verify(source.parent, tmp_path / "out")
    assert found.passed
    assert found.skipped == ("all.parquet#2",)
    assert found.checked == 6


def test_a_truncated_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    source = parquet(tmp_path / "in" / "all.parquet", [(png(pixels(index)), index % 2) for index in range(4)])
    broken = tmp_path / "out" / "all.parquet"
    broken.parent.mkdir()
    broken.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"all\.parquet"):
        verify(source.parent, tmp_path / "out")
