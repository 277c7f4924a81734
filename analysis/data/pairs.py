"""Groups of one picture and its captions -> PairSet: what all pair loaders share. Which groups `limit` picks, how
samples are named and numbered, what counts as a defect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.data.defects import Defects
from analysis.data.disk import fingerprint
from analysis.data.samples import PairSet, Picture, Sample
from analysis.errors import DataError


@dataclass(frozen=True, slots=True)
class PairGroup:
    """One picture and its captions as (caption id, text), in the order of the files."""

    image_id: str  # unique within its split
    picture: Picture
    captions: Sequence[tuple[str, str]]
    split: str = ""
    source: str = ""
    licence: str = ""


def build_pairs(
    name: str,
    groups: Iterable[PairGroup],
    *,
    defects: Defects,
    revision: Iterable[str | bytes],
    limit: int | None = None,
    seed: int = 0,
    check: bool = False,
) -> PairSet:
    """PairSet of the groups that have captions.

    `limit` takes whole groups: the first `limit` of a permutation of all groups that depends on `seed` alone, put back
    into file order. A larger limit therefore keeps what a smaller one chose, and a folder sorted by topic is not cut to
    its first topic. With `check`, pictures whose header is bad are counted and the next group takes their place.
    Sample ids are "split/image id" and "split/image id#caption id". Raises DataError when no group is left.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; expected at least 1 picture, or none for all.")
    usable = []
    for group in groups:
        if group.captions:
            usable.append(group)
        else:
            defects.add("picture without a caption", group.image_id)
    chosen = _choose(usable, limit, seed, check, defects)
    if not chosen:
        raise DataError(
            f"{name} has no picture with a caption left ({'; '.join(defects.lines()) or 'it is empty'}); "
            "check the image folder and the caption file."
        )
    samples: list[Sample] = []
    for pair_id, group in enumerate(chosen):
        prefix = f"{group.split}/{group.image_id}" if group.split else group.image_id
        samples.append(
            Sample(prefix, "image", "", group.picture, pair_id, "", group.source, group.split, group.licence)
        )
        samples += [
            Sample(f"{prefix}#{caption_id}", "text", text, None, pair_id, "", group.source, group.split)
            for caption_id, text in group.captions
        ]
    split = "+".join(sorted({group.split for group in chosen} - {""}))
    return PairSet(name, samples, split, fingerprint(revision), defects)


def _choose(groups: list[PairGroup], limit: int | None, seed: int, check: bool, defects: Defects) -> list[PairGroup]:
    order = np.arange(len(groups)) if limit is None else np.random.default_rng(seed).permutation(len(groups))
    wanted = len(groups) if limit is None else limit
    kept: list[int] = []
    for index in order.tolist():
        if len(kept) == wanted:
            break
        if check:
            try:
                groups[index].picture.check()
            except DataError as error:
                defects.add("picture that cannot be opened", f"{groups[index].image_id} ({error})")
                continue
        kept.append(index)
    return [groups[index] for index in sorted(kept)]
