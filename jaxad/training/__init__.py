"""From a detector and images to a trained state: the training loop, scoring, checkpoints, early stopping."""
