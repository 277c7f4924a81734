"""The builder: data -> embeddings -> SAE -> codes -> scores -> retrieval -> one published store.

Every step leaves its result under `cache/work/`, finds it there when it is run again, and can be the last one
(`until`): the commands extract, train-sae, encode and score are this same path, stopped early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.build.assemble import assemble_store
from analysis.build.corpus import load_corpus
from analysis.build.dictionary import check_width, existing_sae, obtain_sae
from analysis.build.extraction import Extraction, OpenBackbone, Progress, Say, backbone_config, extract
from analysis.build.files import only_one
from analysis.build.plan import ALL_VARIANTS, BuildPlan, Config, slug
from analysis.errors import AnalysisError
from analysis.models.backbones import BACKBONES, find_spec
from analysis.models.families import TAPS
from analysis.store.schema import store_key

STEPS = ("extract", "train-sae", "encode", "score", "publish")


def build(plan: BuildPlan, *, until: str = "publish", say: Say = print, progress: Progress | None = None) -> Path:
    """Run the steps up to `until` and return what the last one made: a work folder, an SAE folder or the store.

    Refuses wrong input before the data are read, or before the model is loaded, where that can be known. Two builds of one
    configuration at the same time are refused: the second is told that the first is running.
    """
    progress = progress or (lambda step, done, total: None)
    known_width = _check_names(plan)
    given = existing_sae(plan, slug(find_spec(plan.model.backbone).key), say=say, width=known_width)
    corpus = load_corpus(plan.data, plan.model.prompts, cache=plan.cache)
    _report("Data", corpus.defects, say)
    _report("Note", corpus.notes, say)
    with OpenBackbone(plan.model) as opened:
        if given is not None:
            check_width(*given, opened.get().width, plan.model.backbone)
        extraction = extract(plan, plan.model, corpus, opened, say=say, progress=progress)
        if until == "extract":
            return extraction.job.folder
        with only_one(_sae_lock(plan, extraction), "preparing the SAE"):
            sae, sae_path, sae_config = obtain_sae(plan, extraction, opened, given=given, say=say, progress=progress)
        if until == "train-sae":
            return sae_path
        config = store_config(plan, extraction, sae_config)
        return assemble_store(plan, config, extraction, sae, opened, until=until, say=say, progress=progress)


def store_config(plan: BuildPlan, extraction: Extraction, sae_config: Config) -> Config:
    """Everything that changes a number of the store, and nothing else."""
    return {
        **extraction.config,
        "sae": sae_config,
        "sample_code": plan.sample_code,
        "weighting": plan.weighting,
        "embedding_dtype": plan.embedding_dtype,
    }


def _check_names(plan: BuildPlan) -> int | None:
    """Refuse what is wrong in the plan alone; returns the width of the embeddings where the backbone's row says it."""
    spec = find_spec(plan.model.backbone)
    unknown = sorted(set(plan.model.variants or ()) - set(ALL_VARIANTS))
    if unknown:
        raise AnalysisError(
            f"No pooling variant is called {', '.join(unknown)}; expected some of {', '.join(ALL_VARIANTS)}."
        )
    if plan.model.tap not in (None, *TAPS):
        raise AnalysisError(f"tap is {plan.model.tap!r}; expected one of {', '.join(TAPS)}.")
    of_embedding, of_others = (
        {row.prompts for row in BACKBONES.values() if row.trained_to_embed == kind} for kind in (True, False)
    )
    wrong = (
        plan.model.prompts != spec.prompts if spec.trained_to_embed else plan.model.prompts in of_embedding - of_others
    )
    if wrong:
        raise AnalysisError(
            f"Prompts {plan.model.prompts!r} do not belong to {spec.key}: an embedding model is read with the sentences it "
            f"was trained with, and they mean nothing to another; build with --prompts {spec.prompts}."
        )
    return spec.width


def _sae_lock(plan: BuildPlan, extraction: Extraction) -> Path:
    wanted = {"sae": repr(plan.sae), "dtype": plan.embedding_dtype, "of": extraction.config}
    return plan.cache / "work" / f"lock-sae-{store_key(wanted)}"


def _report(kind: str, lines: Sequence[str], say: Say) -> None:
    for line in lines:
        say(f"{kind}: {line}")


__all__ = ["STEPS", "Extraction", "backbone_config", "build", "extract", "store_config"]
