"""Who trains the children of a population: one by one, or side by side under `vmap`."""
