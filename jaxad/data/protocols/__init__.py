"""How the images of a set become the training, validation and test parts of a task."""
