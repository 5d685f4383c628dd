"""What several methods share: image buffers, patch features, nearest neighbours, refinement of maps."""
