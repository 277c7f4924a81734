"""Data -> plotly Figure. Pure functions: arrays and frames in, a figure with its caption in `layout.meta` out."""

from analysis.figures.bridges import bridge_graph
from analysis.figures.concepts import concept_bars, concept_histogram, concept_scatter, score_histogram
from analysis.figures.diagnostics import diagnostic_panels
from analysis.figures.export import figure_csv, figure_data, selected_ids
from analysis.figures.movement import rank_movement
from analysis.figures.overview import (
    JaccardTables,
    cumulative_energy,
    energy_readout,
    energy_table,
    jaccard_table,
    modality_kde,
)
from analysis.figures.pairs import pair_attribution, pair_table
from analysis.figures.palette import Style, backbone_style, backbone_styles, method_style
from analysis.figures.recall import recall_bars, recall_curve, recall_table, sweep_curve
from analysis.figures.style import Curve, caption_of, chart_config, data_line, themed
from analysis.figures.tokens import patch_grid, token_strip

__all__ = [
    "Curve",
    "JaccardTables",
    "Style",
    "backbone_style",
    "backbone_styles",
    "bridge_graph",
    "caption_of",
    "chart_config",
    "concept_bars",
    "concept_histogram",
    "concept_scatter",
    "cumulative_energy",
    "data_line",
    "diagnostic_panels",
    "energy_readout",
    "energy_table",
    "figure_csv",
    "figure_data",
    "jaccard_table",
    "method_style",
    "modality_kde",
    "pair_attribution",
    "pair_table",
    "patch_grid",
    "rank_movement",
    "recall_bars",
    "recall_curve",
    "recall_table",
    "score_histogram",
    "selected_ids",
    "sweep_curve",
    "themed",
    "token_strip",
]
