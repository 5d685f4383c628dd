"""Pages for a person: of a finished search, with the part on a learned controller, and of a comparison."""

from jaxad.report.comparison import HEADS, Curves, comparison_rows, render_comparison
from jaxad.report.controller import controller_parts
from jaxad.report.page import render_report

__all__ = ["HEADS", "Curves", "comparison_rows", "controller_parts", "render_comparison", "render_report"]
