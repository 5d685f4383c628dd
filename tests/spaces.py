"""Search spaces that more than one test file needs."""

from jaxad.nas.space import SearchSpace

# Small enough to enumerate; choices of one, two and three values, so that positions differ in length.
TINY = SearchSpace(
    num_layers=1,
    hypotheses=("centroid", "density", "cluster"),
    distances=("l1",),
    channels=(4, 8),
    kernels=(3,),
    pool_kernels=(1, 3),
    norms=("batch",),
    activations=("relu", "elu"),
)

# Choices of a search whose children share nearly all of their programs, as fields of `jaxad.search`.
FEW = {
    "hypotheses": ("centroid", "reconstruction"), "distances": ("l1", "l2"), "channels": (4,), "kernels": (1, 3),
    "pools": ("max",), "pool_kernels": (1,), "norms": ("none",), "activations": ("relu", "linear"),
}  # fmt: skip
