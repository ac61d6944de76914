from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.faces.people import (
    BOUND,
    PEOPLE,
    PICTURES,
    SIDE,
    Folders,
    folders,
    name,
    picture,
    save,
    write,
    write_pairs,
)

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.data import (
    FaceSets,
    check_people,
    load_faces,
    open_others,
    uniform_side,
)
from withhold.evaluation.faces.pairs import read_pairs
from withhold.evaluation.faces.roles import cast, drawn_share, halves, of_people
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.matching import Chosen, Sources, choose_images


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return folders(tmp_path)


def chosen(data: Folders) -> Chosen:
    return choose_images(Sources(data.originals, data.released, data.test), FaceSettings())


def loaded(data: Folders, others: Path | None = None, seed: int = 0, side: int = SIDE) -> FaceSets:
    known = chosen(data)
    apart = open_others(others, known.classes) if others else None
    pairs = read_pairs(data.pairs)
    return load_faces(known, apart, pairs, side=side, size=SIDE, bound=BOUND, seed=seed)


@pytest.mark.parametrize("people", [4, 7, 62])
def test_owners_and_others_are_disjoint_everyone_and_seeded(people: int) -> None:
    own, others = halves(people, seed=3)
    assert set(own) | set(others) == set(range(people))
    assert not set(own) & set(others)
    assert len(own) - len(others) in {0, 1}
    assert halves(people, seed=3) == (own, others)
    assert any(halves(people, seed=seed) != (own, others) for seed in range(4, 8))


def test_people_are_numbered_anew_in_the_order_given() -> None:
    pictures = Labelled(
        torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, 1, 1), torch.tensor([0, 1, 2] * 2)
    )
    found = of_people(pictures, (2, 0))
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.images[:, 0, 0, 0].tolist() == [0, 2, 3, 5]


def test_others_drawn_from_the_dataset_leave_it_with_their_test_pictures(data: Folders) -> None:
    sets = loaded(data)
    roles = cast(sets, others=True, released=True)
    own, others = halves(PEOPLE, seed=0)
    assert (roles.people, roles.drawn) == (own, True)
    for material in ("original", "noise", "released"):
        published = roles.published(material)
        assert torch.equal(published.images, sets.published(material).images[np.isin(sets.original.labels, own)])
        assert set(published.labels.tolist()) == set(range(len(own)))
    assert torch.equal(roles.others.images, sets.original.images[np.isin(sets.original.labels, others)])
    assert torch.equal(roles.others_released.images, sets.released.images[np.isin(sets.original.labels, others)])
    assert torch.equal(roles.test.images, sets.test.images[np.isin(sets.test.labels, own)])


def test_others_who_are_given_leave_the_dataset_whole(data: Folders, tmp_path: Path) -> None:
    sets = loaded(data, write(tmp_path / "others", range(40, 43), range(4)))
    roles = cast(sets, others=True)
    assert roles.people == tuple(range(PEOPLE))
    assert (len(roles.others), len(roles.others_released)) == (12, 0)
    assert sorted(set(roles.others.labels.tolist())) == [0, 1, 2]
    # Nobody but the dataset's own people has released versions.
    assert cast(sets, others=True, released=True).drawn


def test_nobody_is_cast_where_nobody_is_needed(data: Folders) -> None:
    roles = cast(loaded(data), others=False)
    assert (roles.people, len(roles.others), roles.drawn) == (tuple(range(PEOPLE)), 0, False)


def test_too_few_people_to_divide_are_refused(tmp_path: Path) -> None:
    sets = loaded(folders(tmp_path, people=3))
    with pytest.raises(InvalidInput, match=r"3 are too few to divide: 4 are needed"):
        cast(sets, others=True)


@pytest.mark.parametrize(("percent", "each"), [(1, 1), (20, 2), (50, 5), (99, 9)])
def test_a_share_of_each_persons_pictures_is_drawn_never_none_or_all(percent: int, each: int) -> None:
    labels = torch.arange(40) % 4
    drawn = drawn_share(labels, percent, seed=0)
    assert labels[drawn].bincount().tolist() == [each] * 4
    assert torch.equal(drawn, drawn_share(labels, percent, seed=0))
    assert not torch.equal(drawn, drawn_share(labels, percent, seed=1))


def test_pictures_come_as_they_are_and_are_resized_where_asked_for(data: Folders) -> None:
    sets = loaded(data)
    assert torch.equal(sets.original.images[0], torch.from_numpy(picture(0, 0)).permute(2, 0, 1))
    assert sets.pairs is not None
    first = torch.from_numpy(picture(100, 0)).permute(2, 0, 1)
    assert torch.equal(sets.pairs.images[sets.pairs.pairs.names.index("100-0.png")], first)
    small = loaded(data, side=16)
    assert small.original.images.shape == (PEOPLE * PICTURES, 3, 16, 16)
    assert small.pairs is not None
    assert small.pairs.images.shape[1:] == (3, 16, 16)
    assert small.digests["pairs"] != sets.digests["pairs"]


def test_another_label_of_a_pair_is_another_digest(data: Folders) -> None:
    before = loaded(data).digests["pairs"]
    lines = data.pairs.read_text().splitlines()
    lines[1] = f"0{lines[1][1:]}"
    data.pairs.write_text("\n".join(lines))
    assert loaded(data).digests["pairs"] != before


def test_a_person_with_a_single_picture_is_refused(data: Folders) -> None:
    for folder in (data.originals, data.released):
        for number in range(1, PICTURES):
            (folder / name(3) / f"{number}.png").unlink()
    with pytest.raises(InvalidInput, match=r"fewer than 2 pictures, such as person-03"):
        check_people(chosen(data))


def test_a_person_without_a_test_picture_is_refused(data: Folders) -> None:
    known = chosen(data)
    left = known.test.take(np.flatnonzero(known.test.labels != 5))
    with pytest.raises(InvalidInput, match=r"1 people have no test picture, such as person-05"):
        check_people(Chosen(known.classes, known.original, known.released, left, None))


def test_originals_of_several_sizes_are_refused(data: Folders) -> None:
    for folder in (data.originals, data.released):
        save(folder / name(0) / "0.png", picture(0, 0, side=64))
    with pytest.raises(InvalidInput, match="squares of one size"):
        uniform_side(chosen(data))


@pytest.mark.parametrize("where", ["test", "pairs"])
def test_a_measured_picture_of_another_size_is_refused(data: Folders, where: str) -> None:
    path = data.test / name(2) / "50.png" if where == "test" else data.pairs.parent / "pairs" / "101-2.png"
    save(path, picture(7, 7, side=64))
    with pytest.raises(InvalidInput, match=rf"{path.name} is 64 x 64 and others are 32 x 32"):
        loaded(data)


def test_a_test_picture_that_is_trained_on_is_refused(data: Folders) -> None:
    save(data.test / name(2) / "x.png", picture(2, 0))
    with pytest.raises(InvalidInput, match=r"1 images of the test set are also in the training set"):
        loaded(data)


@pytest.mark.parametrize("number", [0, 50])
def test_a_picture_of_the_pairs_that_is_known_is_refused(data: Folders, number: int) -> None:
    save(data.pairs.parent / "pairs" / "103-1.png", picture(4, number))
    with pytest.raises(InvalidInput, match=r"1 pictures of the pairs are also in .*103-1\.png"):
        loaded(data)


def test_other_people_who_are_the_owners_or_single_are_refused(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"1 are in both, such as person-07"):
        loaded(data, write(tmp_path / "same", range(7, 9), range(60, 63)))
    with pytest.raises(InvalidInput, match=r"fewer than 2 pictures"):
        loaded(data, write(tmp_path / "single", range(40, 42), range(1)))
    others = write(tmp_path / "others", range(40, 42), range(3))
    save(others / name(40) / "x.png", picture(1, 1))
    with pytest.raises(InvalidInput, match=r"1 images of the other people are also in the originals"):
        loaded(data, others)


def test_other_people_are_none_of_the_pairs(data: Folders, tmp_path: Path) -> None:
    others = write(tmp_path / "others", range(40, 42), range(3))
    write_pairs(data.pairs, range(41, 49))
    with pytest.raises(InvalidInput, match=r"3 pictures of the pairs are also in"):
        loaded(data, others)
