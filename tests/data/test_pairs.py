"""Choosing, naming and numbering pair groups."""

import pytest

from analysis.data.defects import Defects
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import Picture
from analysis.errors import DataError
from tests.data.writers import encoded, solid


def groups(n: int, *, broken: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> list[PairGroup]:
    return [
        PairGroup(
            f"i{i}",
            Picture(data=b"no picture" if i in broken else encoded(solid(i, 0, 0)), name=f"i{i}"),
            () if i in silent else [("a", f"caption a of {i}"), ("b", f"caption b of {i}")],
            "val",
        )
        for i in range(n)
    ]


def build(items, **options):
    defects = options.pop("defects", Defects())
    return build_pairs("toy", items, defects=defects, revision=["v1"], **options)


def images(pairs):
    return [sample.sample_id for sample in pairs.samples if sample.modality == "image"]


def test_pair_ids_run_from_zero_and_the_image_comes_first():
    pairs = build(groups(3))
    assert [sample.pair_id for sample in pairs.samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [sample.modality for sample in pairs.samples[:3]] == ["image", "text", "text"]
    assert [sample.sample_id for sample in pairs.samples[:3]] == ["val/i0", "val/i0#a", "val/i0#b"]
    assert (pairs.n_pairs, pairs.split) == (3, "val")


def test_limit_takes_whole_groups_and_a_larger_limit_keeps_them():
    chosen = [set(images(build(groups(50), limit=n))) for n in (5, 12, 50, 999)]
    assert [len(ids) for ids in chosen] == [5, 12, 50, 50]
    assert chosen[0] < chosen[1] < chosen[2]
    pairs = build(groups(50), limit=5)
    assert len(pairs.samples) == 15
    assert pairs.n_pairs == 5
    assert images(pairs) == sorted(images(pairs), key=lambda name: int(name.split("i")[-1]))  # file order


def test_limit_follows_the_seed_and_is_not_the_head_of_the_file():
    assert images(build(groups(50), limit=5)) == images(build(groups(50), limit=5))
    assert images(build(groups(50), limit=5, seed=1)) != images(build(groups(50), limit=5))
    assert images(build(groups(50), limit=5)) != [f"val/i{i}" for i in range(5)]


def test_ids_do_not_depend_on_limit():
    everything = {sample.sample_id: sample.text for sample in build(groups(20)).samples}
    for sample in build(groups(20), limit=4).samples:
        assert everything[sample.sample_id] == sample.text


def test_check_replaces_pictures_that_cannot_be_opened():
    defects = Defects()
    pairs = build(groups(10, broken=(2, 5)), limit=8, check=True, defects=defects)
    assert pairs.n_pairs == 8
    assert not {"val/i2", "val/i5"} & set(images(pairs))
    assert defects.count("picture that cannot be opened") <= 2
    every = Defects()
    assert build(groups(10, broken=(2, 5)), check=True, defects=every).n_pairs == 8
    assert every.count("picture that cannot be opened") == 2
    assert build(groups(10, broken=(2, 5))).n_pairs == 10  # without a check nothing is opened


def test_pictures_without_captions_are_counted():
    defects = Defects()
    assert build(groups(4, silent=(1, 3)), defects=defects).n_pairs == 2
    assert defects.lines() == ["2 x picture without a caption, first: i1"]


def test_nothing_left_is_one_sentence():
    with pytest.raises(DataError, match=r"toy has no picture with a caption left \(1 x picture without a caption"):
        build(groups(1, silent=(0,)))
    with pytest.raises(DataError, match="it is empty"):
        build([])
    with pytest.raises(DataError, match="limit is 0"):
        build(groups(3), limit=0)
