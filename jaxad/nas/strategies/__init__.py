"""Who proposes architectures: the learned controller of AutoAD, random search, evolution."""
