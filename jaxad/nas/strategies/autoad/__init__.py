"""AutoAD: a Bayesian LSTM that is curious and imitates its best architectures (Li et al., TNNLS 2022)."""

from jaxad.nas.strategies.autoad.config import AutoADConfig as AutoADConfig
from jaxad.nas.strategies.autoad.config import ablations as ablations
from jaxad.nas.strategies.autoad.strategy import autoad as autoad
