"""Settings of AutoAD, and the variants of its ablations (Table V)."""

import dataclasses
from typing import Literal, get_args

Likelihood = Literal["weighted", "plain"]
Gain = Literal["natural", "update"]
Gained = Literal["all", "lstm"]
Reinforced = Literal["acting", "sharpened"]
Subtracted = Literal["shaped", "external"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoADConfig:
    """Settings of the controller: the paper's but for learning rate, prior, keep and revisits; see `paper`."""

    learning_rate: float = 1e-2
    """Learning rate of Adam for mean, rho and eta. The paper's 3.5e-4 learns nothing within a hundred children."""
    curiosity: float = 0.01
    """Weight of the information gain in the reward, called eta in Eq. 7 (Table V tries 0, 0.01 and 0.1)."""
    buffer: int = 10
    """Architectures in the replay buffer (Table V tries 0, 5 and 10); 0 needs imitations and revisits of 0."""
    imitations: int = 4
    """Self-imitation steps after every population."""
    revisits: int = 1
    """Imitated architectures that train the shared weights again every time, one a step (Algorithm 1, line 20)."""
    sharpening: bool = True
    """Whether losses use weights of the sharpened posterior (Eqs. 13-16)."""
    bayesian: bool = True
    """Whether weights have a posterior; without one the controller is a plain LSTM, not curious and not sharpened."""
    gain: Gain = "natural"
    """Information gain of which step: a natural-gradient one (natural, VIME), or Adam's (update, Algorithm 1)."""
    gained: Gained = "all"
    """Weights that the information gain is of: all, or those of the LSTM alone (lstm). Biases of the heads make up most
    of the former, and gain the same from any architecture while all are about as likely."""
    likelihood: Likelihood = "weighted"
    """Whether architectures count by their advantage in the likelihood of Eq. 16 (weighted), or all alike (plain)."""
    reinforced: Reinforced = "acting"
    """Whose log-probabilities REINFORCE differentiates: of the weights that acted, or of these sharpened by rewards."""
    on_policy: bool = True
    """Whether REINFORCE counts what the controller proposed alone; what was seen before is replaced by other children.
    They are in the baseline, the exploration loss and the buffer all the same. The paper replaces nothing."""
    baseline: Subtracted = "shaped"
    """What the baseline is an average of: rewards with the bonus of curiosity (shaped), or without it (external)."""
    keep: int = 0
    """So many of the best architectures pass their final LSTM states to the next population, K of Fig. 1; 0: none."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards that is the baseline of REINFORCE."""
    entropy: float = 0.0
    """Weight of an entropy bonus; the paper mentions none."""
    tanh: float = 2.5
    """Bound of the logits; no choice is ever certain."""
    temperature: float = 5.0
    """Temperature that divides the logits before the tanh."""
    units: int = 50
    """Units of each of the two LSTM layers."""
    prior: float = 1e-5
    """Weight of the divergence from the prior in Eq. 16. At 1 it is so large that the loss does not see any rewards."""
    sigma0: float = 0.02
    """Standard deviation of sharpened weights around their mean, sigma of Eq. 14."""
    eta: float = 0.01
    """Standard deviation of the initial step sizes of sharpening, eta of Eq. 14 (that of Eq. 7 is the curiosity)."""
    history: int = 10
    """Populations whose median gains scale the information gain."""

    def check(self) -> None:
        """Raise ValueError for values out of range, and for parts that need each other; `autoad` does so, too."""
        for name in ("learning_rate", "temperature", "tanh", "sigma0"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("curiosity", "entropy", "eta", "prior"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        for name in ("buffer", "imitations", "revisits", "keep", "units", "history"):
            value, least = getattr(self, name), int(name in ("units", "history"))
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; give a whole number from {least} upwards")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"baseline_decay is {self.baseline_decay}; give a number from 0 to below 1")
        known = {"likelihood": Likelihood, "gain": Gain, "gained": Gained}
        known |= {"reinforced": Reinforced, "baseline": Subtracted}
        for name, choices in ((name, get_args(kind)) for name, kind in known.items()):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not self.buffer and (self.imitations or self.revisits):
            raise ValueError("with a buffer of 0 there is nothing to imitate; set imitations and revisits to 0, too")
        if not self.bayesian and (self.curiosity or self.sharpening):
            raise ValueError("a plain LSTM has no posterior to be curious about or to sharpen: set both off with it")

    @classmethod
    def paper(cls) -> "AutoADConfig":
        """The constants of the paper and of the codes it rests on, for populations of M = 10.

        K = 5 of the M candidates are carried over, as in AutoGAN, and every self-imitation step trains the shared
        weights of one child (line 20). C, "the number of truncated sequences" in Eq. 16, is read as all beginnings of
        all architectures of the search, 500 x 20 tokens; the mean over a population takes 10 of it. The gain is that
        of a natural-gradient step, as in VIME: Adam's steps have one length, and teach the same of any architecture. It
        is of the weights of the LSTM, as which theta in Eqs. 6 and 7 is read: they remember what has been written, and
        at this learning rate the gain of all weights is nearly a constant.
        """
        return cls(
            learning_rate=3.5e-4, curiosity=0.01, buffer=10, imitations=4, revisits=4, gain="natural", gained="lstm",
            likelihood="weighted", baseline_decay=0.95, entropy=0.0, tanh=2.5, temperature=5.0, units=50, keep=5,
            prior=10 / (500 * 20), sigma0=0.02, eta=0.01,
        )  # fmt: skip


def ablations(config: AutoADConfig) -> dict[str, AutoADConfig]:
    """The full method and each of its parts left out, by name."""
    without = {
        "autoad": {},
        "no-curiosity": {"curiosity": 0.0},
        "no-replay": {"buffer": 0, "imitations": 0, "revisits": 0},
        "no-sharpening": {"sharpening": False},
        "plain-lstm": {"bayesian": False, "curiosity": 0.0, "sharpening": False},
    }
    return {name: dataclasses.replace(config, **changes) for name, changes in without.items()}
