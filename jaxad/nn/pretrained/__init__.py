"""Weights of networks that others trained on ImageNet, from an installed package or a file; no network is asked.

Files of PyTorch are read without PyTorch and without running anything in them, checked by their SHA-256, and kept as
safetensors in the user's cache.
"""

from jaxad.nn.pretrained.torch_reader import read_state_dict
from jaxad.nn.pretrained.weights import SOURCES, Source, find, is_there, load, shapes_alone

__all__ = ["SOURCES", "Source", "find", "is_there", "load", "read_state_dict", "shapes_alone"]
