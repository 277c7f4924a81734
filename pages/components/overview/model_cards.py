"""What a reader must know about a model, its SAE and its data before believing a number."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.style import percent
from analysis.store import Store
from pages.components.shared import caching, commands, gallery, layout, pins, safe, state


def card(store: Store, name: str) -> None:
    """Name, kind and data of a store, its dimensions, the quality of its SAE, and the ways into it."""
    kind = ("contrastive", "gray") if store.contrastive else ("multimodal LLM", "violet")
    if store.one_vector and not store.contrastive:
        kind = ("multimodal LLM trained to embed", "blue")
    st.markdown(f"**{gallery.escape(name)}** :{kind[1]}-badge[{kind[0]}]")
    st.table(facts(store).set_index("fact"), border="horizontal", hide_header=True)
    layout.warn_poor_sae(store)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        state.page_link("concepts", "Concepts", icon=":material/grid_view:", store=caching.store_id(store))
        state.page_link("retrieval_lab", "Retrieval lab", icon=":material/science:", store=caching.store_id(store))
        pin = pins.Pin(
            sentence=f"What {name} is, and how well its SAE explains it", stores=[store], command=commands.stores()
        )
        pins.button(f"card-{caching.store_id(store)}", pins.table(lambda: facts(store), pin))


def facts(store: Store) -> pd.DataFrame:
    """Columns fact, value."""
    config, counts = store.config, store.facts.get("counts", {})
    quality = store.facts.get("quality", {})
    backbone, sae, data = config["backbone"], config["sae"], config["data"]
    rows = [
        ("model", f"{backbone.get('model', store.backbone)} @ {backbone['tap']}"),
        ("revision", str(backbone.get("revision") or "not stated")[:16]),
        ("width D", f"{store.width:,}"),
        ("embedding", store.embedding_words),
        ("concepts K, active per sample", f"{store.n_concepts:,}, {sae['top_k']}"),
        ("SAE trained on", "pooled embeddings" if sae["unit"] == "pooled" else "token states"),
        ("R² per dimension", _r2(quality, "r2_per_dimension")),
        ("R², one mean (overcomplete's)", _r2(quality, "r2_scalar_mean")),
        ("L0, dead concepts", _sparsity(quality.get("all", {}))),
        (
            "data",
            f"{data['name']} {data.get('split') or ''}".strip() + f", revision {str(data.get('revision') or '?')[:12]}",
        ),
        (
            "samples N",
            f"{store.n_samples:,} ({counts.get('images', 0):,} images, {counts.get('captions', 0):,} captions)",
        ),
        *_gap(store),
        (
            "sample code, energy over",
            f"{config.get('sample_code', '')}, {config.get('weighting', '')}".replace("_", " "),
        ),
    ]
    return pd.DataFrame([{"fact": fact, "value": safe.words(value)} for fact, value in rows])


def _gap(store: Store) -> list[tuple[str, str]]:
    """Rows about how far apart the two modalities lie; none for a store without pairs."""
    found = caching.pair_gap(store)
    if found.pairs < 2:
        return []
    matched = found.matched
    return [
        ("modality gap", f"{found.gap:.2f} (between halves of one modality {found.within:.2f})"),
        (
            f"cosine in {found.pairs:,} pairs",
            f"{matched.value:.2f} [{matched.low:.2f}, {matched.high:.2f}], picture and caption of different pairs "
            f"{found.unmatched:.2f}: {found.distance:.1f} standard deviations apart".replace("-", "\N{MINUS SIGN}"),
        ),
    ]


def _r2(quality: dict, name: str) -> str:
    parts = [
        f"{part} {quality[part][name]:.2f}"
        for part in ("all", "image", "text")
        if quality.get(part, {}).get(name) is not None
    ]
    return ", ".join(parts).removeprefix("all ") or "not stated"


def _sparsity(quality: dict) -> str:
    if quality.get("l0") is None:
        return "not stated"
    return f"{quality['l0']:.1f}, {percent(float(quality.get('dead_share', float('nan'))))}"
