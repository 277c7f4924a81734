"""`python -m analysis.demo.measure STORE ...`: how believable the concepts of demo stores are, trained and untrained.

Words are chosen on the even pairs of a store and judged on the odd ones, so no scene decides about itself.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from analysis.cli import OneSentence
from analysis.concepts.names import words_of
from analysis.data.emoji_vocabulary import vocabulary
from analysis.demo.believable import Believable, Scenes, believable
from analysis.sae.checkpoint import UNTRAINED, Sae, load_sae
from analysis.store.read import Store, open_store


def measure_store(store: Store, sae: Sae) -> Believable:
    """The figures of an SAE on the pictures and captions of a store."""
    samples = store.samples
    rows = np.flatnonzero(samples["pair_id"].to_numpy() >= 0)
    pairs, images = samples["pair_id"].to_numpy()[rows], samples["modality"].to_numpy()[rows] == "image"
    said = [set(words_of(text)) for text in samples["text"].fillna("").to_numpy()[rows]]
    of_pair: dict[int, set[str]] = {}
    for pair, words in zip(pairs, said, strict=True):
        of_pair.setdefault(int(pair), set()).update(words)
    columns = {word: column for column, word in enumerate(sorted(set().union(*of_pair.values())))}
    table = np.zeros((len(rows), len(columns)), np.float32)
    for row, (pair, image) in enumerate(zip(pairs, images, strict=True)):
        table[row, [columns[word] for word in (of_pair[int(pair)] if image else said[row])]] = 1
    vectors = np.asarray(store.embeddings("mean", rows), np.float32)
    choosing, judging = (Scenes(vectors[part], images[part], table[part]) for part in (pairs % 2 == 0, pairs % 2 == 1))
    objects = np.array([columns[word] for word in vocabulary() if word in columns])
    return believable(sae, choosing, judging, objects)


@click.command(cls=OneSentence)
@click.argument("stores", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(stores: tuple[Path, ...]) -> None:
    """Print one line for the SAE of each store and one for the SAE that its training started from."""
    opened = [open_store(path) for path in stores]
    click.echo("| store | SAE | R² image / text | energy in believable concepts | objects with one | concepts |")
    click.echo("|---|---|---|---|---|---|")
    for path, store in zip(stores, opened, strict=True):
        folder = store.cache_dir / store.config["sae"]["path"]
        for kind, place in (("trained", folder), (UNTRAINED, folder / UNTRAINED)):
            found = measure_store(store, load_sae(place))
            click.echo(
                f"| {path.parent.name}/{path.name} | {kind} | {found.r2_image:.2f} / {found.r2_text:.2f} "
                f"| {100 * found.energy_share:.0f} % | {found.objects} | {found.n_concepts} |"
            )


if __name__ == "__main__":
    main()
