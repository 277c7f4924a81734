"""Datasets as people have them on disk -> Sample, PairSet, RetrievalSet."""

from analysis.data.defects import Defects
from analysis.data.samples import MODALITIES, SHORT, TASKS, PairSet, Picture, RetrievalSet, Sample

__all__ = ["MODALITIES", "SHORT", "TASKS", "Defects", "PairSet", "Picture", "RetrievalSet", "Sample"]
