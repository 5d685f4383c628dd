"""scikit-learn's estimators as detectors of images, on their pixels: fitted by scikit-learn, evaluated in JAX.

`step` remembers images, `calibrate` has scikit-learn fit its estimator to them, on the host, and keeps what was fitted
as arrays of fixed shape; `score` evaluates these arrays, on any device and without scikit-learn. One pass over the
training images suffices. The images given to `calibrate` are not fitted to, so that a threshold on them stays honest.

The score is minus scikit-learn's `score_samples`, to the rounding of float32. Images larger than `side` pixels are
reduced first, with antialiasing.
"""
