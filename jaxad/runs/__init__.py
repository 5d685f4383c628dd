"""A run from the command line to its report: folders, progress, evaluation, saved detectors."""
