"""The null of the bridges against permutations drawn one by one, and both scans in one pass."""

import numpy as np
import pandas as pd
import pytest

from analysis.concepts.bridge_null import null_coactivation
from analysis.concepts.bridges import bridge_all, bridge_between, bridge_pairs, bridges, meeting, strongest
from analysis.errors import DataError
from analysis.sae.codes import Codes


def dense(codes):
    return codes.to_csr().toarray().astype(np.float64)


def columns(*columns_):
    """Codes from dense columns, one slot a concept."""
    values = np.stack(columns_, axis=1).astype(np.float32)
    return Codes(np.tile(np.arange(values.shape[1], dtype=np.int32), (len(values), 1)), values, values.shape[1])


def sides(n=240, captions=1, seed=0):
    """Concept 0 is shared by the two sides of a pair, 1 is not; 2 fires on one sample in twelve, 3 always."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(2, 1, (4, n))
    image[2] *= rng.random(n) < 1 / 12
    image[3] = 1 + 0.1 * rng.random(n)
    text = rng.gamma(2, 1, (4, n))
    text[0] = image[0] + 0.1 * text[0]
    text[2] *= rng.random(n) < 1 / 12
    text[3] = 1 + 0.1 * rng.random(n)
    noise = rng.random((4, n, captions)) * 0.01
    return columns(*np.repeat(image, captions, axis=1)), columns(*(text[:, :, None] + noise).reshape(4, -1))


def drawn_quantile(image, text, captions, draws=6000, quantile=0.99):
    """The definition: move the captions of whole images, multiply, sort."""
    zi, zt = dense(image), dense(text)
    n = len(zi) // captions
    rng = np.random.default_rng(9)
    values = []
    for _ in range(draws):
        moved = np.arange(len(zi)).reshape(n, captions)[rng.permutation(n)].ravel()
        values.append(zi.T @ zt[moved] / len(zi))
    return np.quantile(values, quantile, axis=0)


@pytest.mark.parametrize("captions", [1, 5])
def test_null_is_the_quantile_over_permuted_images(captions):
    image, text = sides(captions=captions)
    expected = drawn_quantile(image, text, captions)
    i, j = np.divmod(np.arange(16), 4)
    found = null_coactivation(image, text, i, j, quantile=0.99)
    np.testing.assert_allclose(found, expected[i, j], rtol=0.05)


def test_null_of_single_captions_would_be_too_low():
    """Five captions of one image say the same: moving them one by one hides how much chance can do."""
    image, text = sides(captions=5)
    together = null_coactivation(image, text, np.array([2]), np.array([2]))
    apart = null_coactivation(image, text, np.array([2]), np.array([2]), groups=np.arange(len(image)))
    assert together[0] > 1.3 * apart[0]


def test_only_the_true_bridge_exceeds_its_null():
    image, text = sides()
    dictionary = np.abs(np.random.default_rng(1).standard_normal((4, 6))).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    table = bridge_pairs(image, text, dictionary).set_index(["image_concept", "text_concept"])
    assert len(table) == 16
    assert table.loc[(0, 0), "excess"] > 0.1 * table.loc[(0, 0), "bridge"]
    assert table.loc[(3, 3), "excess"] < 0  # always on, on both sides: coincidence alone
    assert (table["excess"] > 0).sum() == 1
    np.testing.assert_allclose(table["excess"], table["bridge"] - table["null_quantile"])
    assert table["bridge"].is_monotonic_decreasing


def test_seeds_decide_the_null():
    image, text = sides(n=50)
    one, again, other = (null_coactivation(image, text, np.array([1]), np.array([1]), seeds=s) for s in ([0], [0], [1]))
    assert one == again != other


def test_one_pass_gives_what_two_give():
    image, text = sides(n=60)
    dictionary = np.eye(4, dtype=np.float32)
    scores, table = bridges(image, text, dictionary, n=3)
    pd.testing.assert_frame_equal(table, bridge_pairs(image, text, dictionary, n=3))
    for name, bridge in bridge_all(image, text, dictionary).items():
        np.testing.assert_array_equal(bridge.score, scores[name].score)


def test_nothing_to_bridge():
    empty = Codes(np.zeros((0, 2), np.int32), np.zeros((0, 2), np.float32), 4)
    table = bridge_pairs(empty, empty, np.eye(4, dtype=np.float32))
    assert list(table) == [
        "image_concept",
        "text_concept",
        "coactivation",
        "cosine",
        "bridge",
        "null_quantile",
        "excess",
    ]
    assert not len(table)
    one = columns(*np.ones((4, 1)))
    assert bridge_pairs(one, one, np.eye(4, dtype=np.float32))["null_quantile"].isna().all()
    silent = columns(*np.zeros((4, 5)))
    assert (bridge_all(silent, silent, np.eye(4, dtype=np.float32))["max"].partner == -1).all()
    with pytest.raises(DataError, match="between 0 and 1"):
        bridge_pairs(one, one, np.eye(4, dtype=np.float32), quantile=1.0)


def test_one_bridge_is_the_row_of_all_of_them():
    image, text = sides(captions=2)
    dictionary = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    groups = np.repeat(np.arange(240), 2)
    table = bridge_pairs(image, text, dictionary, groups=groups)
    for _, row in table.iterrows():
        one = bridge_between(
            image, text, dictionary, int(row["image_concept"]), int(row["text_concept"]), groups=groups
        )
        pd.testing.assert_series_equal(one.iloc[0], row, check_names=False, rtol=1e-5)


def test_strongest_beyond_the_null_leaves_out_what_chance_gives():
    table = pd.DataFrame(
        {
            "image_concept": [3, 0, 0, 2],
            "text_concept": [3, 0, 1, 1],
            "bridge": [9.0, 5, 3, 1],
            "excess": [-1.0, 2, 1, 3],
        }
    )
    assert strongest(table, "bridge").index.tolist() == [0, 1, 2, 3]
    assert strongest(table, "excess").index.tolist() == [3, 1, 2]
    assert strongest(table, "excess", apart=True).index.tolist() == [3, 2]
    assert strongest(table, "bridge", of=1).index.tolist() == [2, 3]


def test_concepts_meet_on_the_pairs_on_which_both_fire():
    found = meeting(np.array([0, 2.0, 1.0, 3.0]), np.array([5.0, 1.0, 0, 2.0]))
    assert found.both.tolist() == [3, 1]
    assert (found.share, found.usual) == (2 / 3, 3 / 4)
    assert np.isnan(meeting(np.zeros(2), np.ones(2)).share)
