"""How the site is built: `pip install '.[docs]' && sphinx-build -W docs site`.

Tutorials run while it is built, and what they show is what came out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from jaxad import __version__

project = "jaxad"
release = version = __version__
html_title = f"jaxad {version}"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "site_parts",
]
exclude_patterns = ["_ext"]

# ---- pages
html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2, "show_navbar_depth": 1, "use_download_button": False}
html_copy_source = False
myst_heading_anchors = 4  # links to headings, as on GitHub
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.xref_ambiguous"]

# ---- tutorials
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # of a cell; busy machines are slow
nb_merge_streams = True

# ---- API reference
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
add_module_names = False
napoleon_use_rtype = False
