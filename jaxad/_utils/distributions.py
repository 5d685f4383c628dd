"""distrax, imported without the warnings that its own dependency raises about names of JAX on their way out.

Import it from here, and only in modules whose users sample from a distribution: it takes a second.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import distrax as distrax

__all__ = ["distrax"]
