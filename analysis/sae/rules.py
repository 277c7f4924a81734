"""From what a file holds to an SAE: what its class leaves open (rule, threshold, top_k) is settled, and what was assumed is
said in `meta["notes"]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import GATED, RELU, THRESHOLD, TOP_K, Sae, scores
from analysis.sae.formats.found import Foreign

PAPER_TOP_K = 50  # the released checkpoints do not store it; arXiv 2512.19115, appendix A
NAMES = {"top-k": TOP_K, "batch-topk": THRESHOLD, "relu": RELU}
CAP_TIMES = 4  # codes are held in so many times the mean number of active concepts,
CAP = 256  # or in so many slots where that is not known
BLOCK = 512  # rows of a sample scored at a time

Sample = Callable[[], np.ndarray]


def completed(
    found: Foreign,
    name: str,
    *,
    top_k: int | None,
    threshold: float | None,
    rule: str | None,
    l0: float | None,
    sample: Sample | None,
) -> Sae:
    """The SAE of a file. Arguments as of `checkpoint.import_checkpoint`. CheckpointError where one is needed."""
    asked = _asked(rule, threshold, l0, found, name)
    notes = list(found.notes)
    found = replace(found, rule=asked)
    if found.rule == TOP_K:
        return _top_k(found, name, top_k, notes, said=rule is not None)
    known = l0 if l0 is not None else found.top_k if found.top_k and found.top_k < len(found.dictionary) else None
    cap = top_k or min(int(np.ceil(CAP_TIMES * known)) if known else CAP, len(found.dictionary))
    least = found.threshold if threshold is None else threshold
    whole = _sae(found, 0.0 if least is None or l0 is not None else least, len(found.dictionary))
    rows = None
    if sample is not None:
        rows = np.asarray(sample(), np.float32)
        if rows.ndim != 2 or rows.shape[1] != whole.width or not len(rows):
            raise CheckpointError(f"The sample has shape {rows.shape}; expected (N, {whole.width}) embeddings, N > 0.")
    if l0 is not None:
        if rows is None:
            raise CheckpointError("A threshold is found for an L0 on embeddings: give some with --sample FILE.")
        least = calibrate(whole, rows, l0)
        notes.append(
            f"Threshold {least:.6g}: with it {l0:g} concepts are active on average in {len(rows):,} sample rows."
        )
    elif least is None or (found.rule == THRESHOLD and rule == "batch-topk" and not np.any(np.asarray(least) > 0)):
        raise CheckpointError(
            f"{name} does not hold the threshold of its BatchTopK encoder: give --threshold T, or --l0 L --sample FILE to "
            "find the one at which L concepts are active on average."
        )
    whole = replace(whole, threshold=least)
    if rows is not None and top_k is None:
        counts = active(whole, rows)
        cap = int(min(max(np.ceil(CAP_TIMES * counts.mean()), 1), whole.n_concepts))
        cut = np.maximum(counts - cap, 0).sum() / max(counts.sum(), 1)
        notes.append(
            f"{counts.mean():.1f} concepts are active on average in {len(rows):,} sample rows, {counts.max()} at most; codes "
            f"are held in {cap}, which cuts {cut:.2%} of the activations."
        )
    else:
        notes.append(f"Its number of active concepts varies; the {cap} largest are held (--top-k sets another width).")
    source = "argument" if top_k is not None else "cap"
    return replace(whole, top_k=cap, meta=_meta(found, name, notes, source))


def calibrate(sae: Sae, rows: np.ndarray, l0: float) -> float:
    """The threshold at which l0 concepts a row are active on average over rows (N, D): the (N l0)-th largest positive score.
    CheckpointError where fewer are positive."""
    wanted = round(l0 * len(rows))
    if not 1 <= wanted <= len(rows) * sae.n_concepts:
        raise CheckpointError(f"An L0 of {l0:g} was asked for; expected between 1 / {len(rows)} and {sae.n_concepts}.")
    best = np.empty(0, np.float32)
    for lo in range(0, len(rows), BLOCK):
        found = scores(sae, rows[lo : lo + BLOCK])
        best = np.concatenate([best, found[found > 0]])
        if len(best) > wanted:
            best = np.partition(best, len(best) - wanted)[len(best) - wanted :]
    if len(best) < wanted:
        raise CheckpointError(
            f"Only {len(best) / len(rows):.1f} scores a row are positive in the sample; an L0 of {l0:g} cannot be reached: ask "
            "for less, or give embeddings of the model the SAE was trained on."
        )
    return float(best.min())


def active(sae: Sae, rows: np.ndarray) -> np.ndarray:
    """(N,) concepts that pass the rule in each row, however many codes hold."""
    parts = [np.count_nonzero(scores(sae, rows[lo : lo + BLOCK]), axis=1) for lo in range(0, len(rows), BLOCK)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _asked(rule: str | None, threshold: float | None, l0: float | None, found: Foreign, name: str) -> str:
    """The rule to use: the file's, or where it leaves that open the one asked for."""
    if rule is not None and rule not in NAMES:
        raise CheckpointError(f"The rule is {rule!r}; expected one of {', '.join(NAMES)}.")
    if threshold is not None and not threshold > 0:
        raise CheckpointError(f"The threshold is {threshold:g}; expected a positive number.")
    if found.ambiguous:
        return NAMES[rule] if rule else TOP_K if threshold is None and l0 is None else THRESHOLD
    if rule is not None and (found.rule == TOP_K) != (rule == "top-k"):
        raise CheckpointError(f"{name} says that its rule is {found.rule!r}, --rule says {rule!r}: leave --rule out.")
    if found.rule == TOP_K and (threshold is not None or l0 is not None):
        raise CheckpointError(f"{name} is a TopK encoder, which has no threshold: leave --threshold and --l0 out.")
    if threshold is None and l0 is None:
        return found.rule
    if found.rule == GATED or isinstance(found.threshold, np.ndarray):
        raise CheckpointError(f"{name} has a threshold for every concept: leave --threshold and --l0 out.")
    return THRESHOLD


def _top_k(found: Foreign, name: str, top_k: int | None, notes: list[str], *, said: bool) -> Sae:
    source = "argument" if top_k is not None else "checkpoint" if found.top_k is not None else "registry"
    k = top_k or found.top_k or PAPER_TOP_K
    if found.ambiguous and top_k is None and found.top_k is not None and found.top_k > len(found.dictionary):
        raise CheckpointError(
            f"{name} says top_k {found.top_k}, more than its {len(found.dictionary)} concepts: as overcomplete's BatchTopKSAE "
            "counts a whole batch. Give --rule batch-topk with --threshold T, or with --l0 L --sample FILE; or --top-k."
        )
    if found.ambiguous and source == "registry" and k > len(found.dictionary):
        raise CheckpointError(
            f"{name} does not say how many concepts are active, and the paper's {k} are more than its "
            f"{len(found.dictionary)} concepts; give --top-k."
        )
    if not found.ambiguous and source == "registry":
        raise CheckpointError(f"{name} does not say how many concepts are active; give --top-k.")
    if found.ambiguous and not said:
        given = {"argument": "as given", "checkpoint": "from the file", "registry": "the paper's"}[source]
        notes.append(
            f"Read as a TopKSAE with top_k {k} ({given}): {found.ambiguous} of {found.tool} saves the same tensors, without "
            "its threshold. If it is one: --rule batch-topk with --threshold T, or with --l0 L (import-sae: --sample FILE)."
        )
    return replace(_sae(found, 0.0, k), meta=_meta(found, name, notes, source))


def _sae(found: Foreign, threshold: float | np.ndarray, top_k: int) -> Sae:
    return Sae(
        *(found.encoder_weight, found.encoder_bias, found.dictionary, top_k),
        threshold=threshold,
        rule=found.rule,
        norms=found.norms(),
        bias=found.bias,
    )


def _meta(found: Foreign, name: str, notes: list[str], top_k_source: str) -> dict[str, Any]:
    return {**found.meta, "source": name, "tool": found.tool, "top_k_source": top_k_source, "notes": notes}
