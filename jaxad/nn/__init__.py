"""Blocks that several methods use: Flax layers in their fast forms, networks, objectives, pretrained weights."""
