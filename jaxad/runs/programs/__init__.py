"""What `jaxad NAME` runs: a module each, with its settings, presets and `main`; scripts of a checkout call the same."""
