"""The page on refined error maps (AutoAD, Eq. 20): the maps of some photographs, and how well each finds things."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.data.images import resize
from jaxad.report.common import made_parts
from jaxad.report.html import Figure, Section, Table, Text, page
from jaxad.report.plots import image_rows

QUANTILE = 0.995  # of errors, where the colours of their maps end


def render_refinement(
    *,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    photographs: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    program: str,
) -> str:
    """The page of a refinement, as HTML text.

    Args:
      config, results: the plain data of config.json and results.json.
      photographs: [S, S, 3] uint8 by name.
      maps: [k, H, W] of these photographs, by the names of `MAPS` and of what they are made of.
      program: the start of the command line.
    """
    from jaxad.methods.common.knowledge import MAPS  # brings SciPy, which pages of other things do without

    scale = {name: np.quantile(values, QUANTILE) if name.startswith("error") else 1.0 for name, values in maps.items()}
    scale[MAPS[-1]] = scale[MAPS[0]]  # refined maps are darker: on the scale of what they were made of
    images = resize(np.stack(list(photographs.values())), maps[MAPS[0]].shape[1])
    rows = [("photograph", images.astype(np.float32) / 255)]
    rows += [(name, (values / scale[name]).clip(0, 1)[..., None]) for name, values in maps.items()]
    caption = "Foreign things on what a photograph shows and on its background, and where maps see them."
    drawing = image_rows(rows, titles=tuple(photographs))
    notes = [Text(text=note, tone="quiet") for note in results["notes"]]
    columns, cells = refinement_table(results)
    sections = [
        Section(title="Maps", parts=[Figure(drawing=drawing, alt=caption, caption=caption, wide=True)]),
        Section(title="Figures", parts=[Table(columns=columns, rows=cells), *notes]),
        Section(title="How this was made", parts=made_parts(config, results, program)),
    ]
    before, after = (results["maps"][name]["auroc"]["mean"] for name in (MAPS[0], MAPS[-1]))
    verdict = f"AUROC of foreign pixels on the thing: {before:.3f} by errors alone, {after:.3f} refined"
    return page("Refined error maps", f"{verdict} ({results['classifier']}).", sections)


def refinement_table(results: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and rows: what was measured of every map of results["maps"]."""
    rows = [
        (name, m["auroc"]["mean"], m["auroc"]["sd"], *m["auroc_of_each"].values(), m["ratio"], m["background"])
        for name, m in results["maps"].items()
    ]
    each = next(iter(results["maps"].values()))["auroc_of_each"]
    return ("map", "AUROC", "sd", *each, "on thing / on background", "share on background"), rows
