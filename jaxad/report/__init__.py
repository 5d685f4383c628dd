"""Pages for a person: of a finished search, of a trained detector, of a segmentation, of a comparison, and the
parts of one method."""

from jaxad.report.agad import agad_pictures, auroc_table, render_one_class, scores_by_class, statistics_table
from jaxad.report.ama import ama_pictures, ama_sections
from jaxad.report.comparison import HEADS, Curves, comparison_rows, render_comparison
from jaxad.report.controller import controller_parts
from jaxad.report.refinement import refinement_table, render_refinement
from jaxad.report.search import render_report
from jaxad.report.segmentation import PIXELS, comparison_table, kinds_table, render_segmentation, sampling_table
from jaxad.report.training import render_training, training_sections

__all__ = [
    "HEADS",
    "PIXELS",
    "Curves",
    "agad_pictures",
    "ama_pictures",
    "ama_sections",
    "auroc_table",
    "comparison_rows",
    "comparison_table",
    "controller_parts",
    "kinds_table",
    "refinement_table",
    "render_comparison",
    "render_one_class",
    "render_refinement",
    "render_report",
    "render_segmentation",
    "render_training",
    "sampling_table",
    "scores_by_class",
    "statistics_table",
    "training_sections",
]
