"""How good scores and anomaly maps are: metrics of images and pixels, thresholds, paired tests."""
