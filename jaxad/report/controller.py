"""The part of a search's report that shows its learned controller."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.report import plots
from jaxad.report.html import Facts, Figure, Table, Text, number


def controller_parts(
    log: Sequence[Mapping[str, Any]], position_names: Sequence[str], values: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """Pictures and tables of what the controller tells after every population.

    Args:
      log: records of `AutoADInfo` as plain data, in any order; of those with the same `num_evaluated` the last counts.
      position_names: of the tokens, as `SearchSpace.position_names`.
      values: names of the choices of every action class.
    """
    log = sorted(
        {record["num_evaluated"]: record for record in log}.values(), key=lambda record: record["num_evaluated"]
    )
    if not log:
        return []
    num_evaluated, last = [record["num_evaluated"] for record in log], log[-1]
    choices = [len(values[name.rpartition(".")[2]]) for name in position_names]

    def mean(name: str) -> np.ndarray:
        return np.array([np.mean(record[name]) for record in log])

    rewards, curiosity = mean("rewards"), mean("curiosity")
    share = curiosity.sum() / max(rewards.sum() + curiosity.sum(), 1e-9)
    parts: list[Any] = [
        Text(
            text="The controller writes architectures token by token. At full entropy it is uniform: what it has "
            "learnt shows where entropies fall and probabilities leave the dashed line."
        )
    ]

    def add(drawing: Any, caption: str, wide: bool = False) -> None:
        parts.append(Figure(drawing=drawing, alt=caption, caption=caption, wide=wide))

    entropies = [record["entropies"] for record in log]
    add(
        plots.controller_entropy(num_evaluated, entropies, position_names, choices),
        "Entropy of every action class over time.",
    )
    add(plots.controller_rewards(num_evaluated, rewards, curiosity, mean("baseline")), "What its rewards are made of.")
    terms = (mean(name) for name in ("gains", "kl_prior", "kl_sharpening"))
    add(plots.controller_information(num_evaluated, *terms), "Information gain and divergences.")
    caption = "Probabilities of the values of every action class after the last population; dashed: uniform."
    add(plots.controller_probabilities(last["probabilities"], position_names, values), caption, wide=True)
    facts = {
        "curiosity's share of the reward": f"{100 * share:.2g} %",
        "baseline": number(last["baseline"]),
        "mean advantage of the last population": number(float(np.mean(last["advantages"]))),
        "mean advantage imitated last": number(last["imitated"]),
    }
    parts.append(Facts(items=facts))
    kept = [(r, t) for r, t in zip(last["buffer_rewards"], last["buffer_tokens"]) if r is not None]
    if kept:
        rows = [[rank, reward, " ".join(map(str, tokens))] for rank, (reward, tokens) in enumerate(kept, start=1)]
        parts.append(Table(columns=["Rank", "Reward", "Tokens"], rows=rows, caption="The replay buffer at the end."))
    return parts
