"""The report of a finished search, one page for a person: `render_report`, and the part on a learned controller."""

from jaxad.report.controller import controller_parts
from jaxad.report.page import render_report

__all__ = ["controller_parts", "render_report"]
