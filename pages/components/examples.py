"""Which samples stand for a concept: `analysis.concepts.examples`, under the name that pages use."""

from analysis.concepts.examples import (
    IMAGE,
    OTHER,
    PAIRED_TOP,
    QUANTILES,
    TEXT,
    Firing,
    around,
    at_random,
    distinct,
    kinds,
    paired_share,
    split,
)

__all__ = [
    "IMAGE",
    "OTHER",
    "PAIRED_TOP",
    "QUANTILES",
    "TEXT",
    "Firing",
    "around",
    "at_random",
    "distinct",
    "kinds",
    "paired_share",
    "split",
]
