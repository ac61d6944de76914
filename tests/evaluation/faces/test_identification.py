"""Rank-k and rank-1 among distractors against brute force and closed forms."""

import json
import tracemalloc
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score  # type: ignore[import-untyped]
from sklearn.metrics.pairwise import cosine_similarity  # type: ignore[import-untyped]

from withhold.errors import InvalidInput
from withhold.evaluation.faces import identification as module
from withhold.evaluation.faces.embeddings import Faces, Templates, cosine_scores, enrol
from withhold.evaluation.faces.identification import crowd_sizes, measure_crowd, measure_identification

Vectors = npt.NDArray[np.float64]


def people(seed: int, each: int, *, count: int = 12, width: int = 8, noise: float = 0.6) -> Faces:
    """Draw pictures scattered around one direction for each identity; identities are numbered with gaps."""
    centres = np.random.default_rng(99).normal(size=(count, width))
    names = np.random.default_rng(seed).permutation(np.repeat(np.arange(count), each))
    scattered = centres[names] + noise * np.random.default_rng(seed + 1).normal(size=(len(names), width))
    return Faces(scattered, names * 7 + 3)


def strangers(seed: int, count: int, width: int = 8) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, width))


def brute_ranks(gallery: Faces, probes: Faces, templates: Templates) -> list[int]:
    """Rank each probe's identity, one probe and one identity at a time."""
    ranks = []
    for probe, own in zip(probes.embeddings, probes.identities, strict=True):
        similar = {}
        for name in np.unique(gallery.identities):
            pictures = gallery.embeddings[gallery.identities == name]
            pictures = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
            known = pictures.mean(axis=0, keepdims=True) if templates == "mean" else pictures
            similar[name] = cosine_similarity(probe[None], known).max().round(12)
        ranks.append(1 + sum(similar[name] >= similar[own] for name in similar if name != own))
    return ranks


@pytest.mark.parametrize("templates", ["mean", "pictures"])
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_ranks_agree_with_brute_force(templates: Templates, noise: float) -> None:
    gallery, probes = people(0, 3, noise=noise), people(1, 4, noise=noise)
    found = measure_identification(gallery, probes, templates=templates)
    ranks = np.array(brute_ranks(gallery, probes, templates))
    assert found.cmc == pytest.approx([(ranks <= k).mean() for k in range(1, 13)])
    assert (found.rank1, found.rank5) == (found.cmc[0], found.cmc[4])
    assert (found.identities, found.gallery, found.probes, found.chance) == (12, 36, 48, 1 / 12)
    assert found.rank1 < 1.0 or noise < 1.0


@pytest.mark.parametrize("k", [1, 5])
def test_without_ties_rates_agree_with_scikit_learn(k: int) -> None:
    gallery, probes = people(2, 5, noise=1.0), people(3, 5, noise=1.0)
    names, templates, _ = enrol(gallery, "mean")
    expected = top_k_accuracy_score(
        np.searchsorted(names, probes.identities),
        cosine_similarity(probes.embeddings, templates),
        k=k,
        labels=range(12),
    )
    found = measure_identification(gallery, probes)
    assert {1: found.rank1, 5: found.rank5}[k] == pytest.approx(expected)
    assert 0.2 < expected < 0.95


def test_templates_are_means_of_unit_embeddings() -> None:
    # The mean of the embeddings themselves would lie along the long one.
    gallery = Faces(np.array([[100.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([4, 4, 2]))
    names, templates, starts = enrol(gallery, "mean")
    assert names.tolist() == [2, 4]
    assert starts.tolist() == [0, 1]
    assert templates == pytest.approx(np.array([[-1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


def test_pictures_that_cancel_each_other_out_are_similar_to_nobody() -> None:
    gallery = Faces(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1]))
    probes = Faces(np.array([[1.0, 0.1]]), np.array([0]))
    assert measure_identification(gallery, probes).rank1 == 0.0
    assert measure_identification(gallery, probes, templates="pictures").rank1 == 1.0


@pytest.mark.parametrize("templates", ["mean", "pictures"])
def test_a_perfect_recogniser_knows_everybody(templates: Templates) -> None:
    faces = Faces(np.repeat(np.eye(9), 3, axis=0), np.repeat(np.arange(9), 3))
    assert measure_identification(faces, faces, templates=templates).cmc == (1.0,) * 9
    crowd = measure_crowd(faces, faces, -np.ones((40, 9)), templates=templates)
    assert [point.rank1.mean for point in crowd.points] == [1.0, 1.0]


@pytest.mark.parametrize("templates", ["mean", "pictures"])
@pytest.mark.parametrize("seed", range(3))
def test_one_embedding_for_all_recognises_nobody(seed: int, templates: Templates) -> None:
    """All similarities are equal, but computed in several ways that round differently."""
    same = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    gallery = Faces(np.outer(np.linspace(0.5, 3.0, 18), same), np.arange(18) % 6)
    probes = Faces(np.outer(np.linspace(0.7, 2.0, 12), same), np.arange(12) % 6)
    found = measure_identification(gallery, probes, templates=templates)
    assert found.cmc == (0.0,) * 5 + (1.0,)
    assert found.rank5 == 0.0
    crowd = measure_crowd(gallery, probes, np.tile(same, (30, 1)), templates=templates)
    assert {rate for point in crowd.points for rate in point.rates} == {0.0}
    scores = cosine_scores(gallery.embeddings[:12], probes.embeddings)
    assert set(scores.tolist()) == {1.0}


def test_with_five_identities_rank_five_is_certain() -> None:
    gallery, probes = people(0, 1, count=5, noise=3.0), people(1, 2, count=5, noise=3.0)
    found = measure_identification(gallery, probes)
    assert found.rank5 == found.cmc[-1] == 1.0
    assert found.rank1 < 1.0


def test_a_swapped_identity_loses_its_probes() -> None:
    faces = Faces(np.eye(10), np.arange(10))
    swapped = Faces(np.eye(10), np.array([1, 0, *range(2, 10)]))
    assert measure_identification(swapped, faces).rank1 == pytest.approx(0.8)
    lost = measure_crowd(swapped, faces, np.full((5, 10), 0.1))
    assert lost.points[-1].rank1.mean == pytest.approx(0.8)


def brute_crowd(gallery: Faces, probes: Faces, crowd: Vectors, templates: Templates) -> float:
    """Compare each probe and each of its mates with every stranger."""
    won = []
    for probe, own in zip(probes.embeddings, probes.identities, strict=True):
        pictures = gallery.embeddings[gallery.identities == own]
        pictures = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
        mates = pictures.mean(axis=0, keepdims=True) if templates == "mean" else pictures
        best = cosine_similarity(probe[None], crowd).max()
        won.extend((cosine_similarity(probe[None], mates)[0] > best).tolist())
    return float(np.mean(won))


@pytest.mark.parametrize("templates", ["mean", "pictures"])
def test_the_whole_crowd_agrees_with_brute_force(templates: Templates) -> None:
    gallery, probes, crowd = people(0, 3), people(1, 4), strangers(2, 300)
    found = measure_crowd(gallery, probes, crowd, templates=templates)
    last = found.points[-1]
    expected = brute_crowd(gallery, probes, crowd, templates)
    assert last.distractors == found.distractors == 300
    assert last.rates == pytest.approx([expected] * 5)
    assert last.rank1.mean == pytest.approx(expected)
    assert last.rank1.deviation == pytest.approx(0.0)
    assert 0.05 < expected < 0.95
    assert (found.identities, found.gallery, found.probes) == (12, 36, 48)
    assert found.trials == (48 if templates == "mean" else 144)


def test_subsets_are_as_likely_as_any_other() -> None:
    """Against one of m strangers a trial is won as often as strangers are less similar than the mate."""
    gallery, probes, crowd = people(0, 2, noise=1.5), people(1, 2, noise=1.5), strangers(2, 40)
    _, templates, _ = enrol(gallery, "mean")
    own = np.searchsorted(np.unique(gallery.identities), probes.identities)
    mates = cosine_similarity(probes.embeddings, templates)[np.arange(len(probes)), own]
    expected = (cosine_similarity(probes.embeddings, crowd) < mates[:, None]).mean()
    found = measure_crowd(gallery, probes, crowd, sizes=[1], draws=400)
    assert found.points[0].rank1.mean == pytest.approx(expected, abs=0.02)
    assert 0.5 < expected < 0.95


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from(["mean", "pictures"]))
def test_no_draws_curve_rises(seed: int, count: int, templates: Templates) -> None:
    crowd = np.round(strangers(seed, count, 3), 1) + 0.05  # many ties
    found = measure_crowd(
        people(seed, 2, width=3),
        people(seed + 5, 2, width=3),
        crowd,
        sizes=range(1, count),
        seed=seed,
        templates=templates,
    )
    rates = np.array([point.rates for point in found.points])
    assert rates.shape == (count, 5)
    assert (np.diff(rates, axis=0) <= 0).all()


def test_subsets_drawn_anew_for_each_size_would_rise() -> None:
    """The property above can fail: it does where the sizes of one curve come from different draws."""
    found = measure_crowd(people(0, 2), people(1, 2), strangers(2, 300), sizes=[8, 9, 10, 11, 12], draws=5)
    rates = np.array([point.rates for point in found.points])
    assert (np.diff([rates[size, size] for size in range(5)]) > 0).any()


def test_small_blocks_give_the_same_result_in_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, probes, crowd = people(0, 3), people(1, 40), strangers(2, 3000)
    whole = [measure_crowd(gallery, probes, crowd, templates=t) for t in ("mean", "pictures")]
    ranks = [measure_identification(gallery, probes, templates=t) for t in ("mean", "pictures")]
    monkeypatch.setattr(module, "BLOCK", 64)
    tracemalloc.start()
    parts = [measure_crowd(gallery, probes, crowd, templates=t) for t in ("mean", "pictures")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert parts == whole
    assert [measure_identification(gallery, probes, templates=t) for t in ("mean", "pictures")] == ranks
    assert peak < len(probes) * len(crowd) * 8 / 8  # bytes of all similarities


def test_draws_depend_on_the_seed_alone() -> None:
    gallery, probes, crowd = people(0, 2), people(1, 2), strangers(2, 200)
    one, again, other = (measure_crowd(gallery, probes, crowd, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one.points[0].rates != other.points[0].rates
    assert one.points[-1] == other.points[-1]


def test_sizes_are_the_usual_ones_and_all() -> None:
    assert crowd_sizes(5) == (5,)
    assert crowd_sizes(100) == (10, 100)
    assert crowd_sizes(200, [50, 7, 7]) == (7, 50, 200)
    for size in (0, 201):
        with pytest.raises(InvalidInput, match=f"from 1 to 200, as many as there are, got {size}"):
            crowd_sizes(200, [size])


def test_cosines_are_those_of_scikit_learn_whatever_the_length() -> None:
    first, second = strangers(0, 50), strangers(1, 50) * 1e6
    expected = np.diag(cosine_similarity(first, second))
    assert cosine_scores(first, second) == pytest.approx(expected, abs=1e-12)
    assert cosine_scores(first.astype(np.float32), second) == pytest.approx(expected, abs=1e-6)


def test_values_are_plain_json() -> None:
    gallery, probes = people(0, 2), people(1, 2)
    for value in (measure_identification(gallery, probes), measure_crowd(gallery, probes, strangers(0, 20), draws=1)):
        assert json.loads(json.dumps(asdict(value), allow_nan=False))["probes"] == 24


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 1e200])
def test_embeddings_without_direction_are_refused(bad: float) -> None:
    embeddings = np.ones((3, 4))
    embeddings[1] = bad
    with pytest.raises(InvalidInput, match="1 of 3 embeddings of the faces are zero or not finite"):
        Faces(embeddings, np.arange(3))
    with pytest.raises(InvalidInput, match="1 of 3 embeddings of the distractors"):
        measure_crowd(Faces(np.eye(4), np.arange(4)), Faces(np.eye(4), np.arange(4)), embeddings)
    with pytest.raises(InvalidInput, match="1 of 3 embeddings of the pairs"):
        cosine_scores(np.ones((3, 4)), embeddings)


def test_what_does_not_belong_together_is_refused() -> None:
    faces = Faces(np.eye(4), np.arange(4))
    with pytest.raises(InvalidInput, match=r"embeddings \(n, d\) of the faces, at least one, got \(0, 4\)"):
        Faces(np.zeros((0, 4)), np.arange(0))
    with pytest.raises(InvalidInput, match=r"each of 4 embeddings, got \(3,\)"):
        Faces(np.eye(4), np.arange(3))
    with pytest.raises(InvalidInput, match="1 people among the probes are not in the gallery, such as identity 9"):
        measure_identification(faces, Faces(np.eye(4), np.array([0, 1, 2, 9])))
    with pytest.raises(InvalidInput, match="one dimension"):
        measure_identification(faces, Faces(np.eye(5), np.array([0, 1, 2, 3, 3])))
    with pytest.raises(InvalidInput, match=r"distractors \(m, 4\)"):
        measure_crowd(faces, faces, np.ones((3, 5)))
    with pytest.raises(InvalidInput, match="at least 1 draw"):
        measure_crowd(faces, faces, np.ones((3, 4)), draws=0)
    with pytest.raises(InvalidInput, match=r"one shape .* \(3, 4\) and \(4, 4\)"):
        cosine_scores(np.ones((3, 4)), np.ones((4, 4)))
