"""Finds architectures: the space, shared weights, the loop, who proposes and who trains children."""
