"""Pictures of a learned controller: how sure it is, what it prefers, and what its rewards are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxad.report.plots.style import BLUE, COLOURS, INK, ORANGE, canvas, label_decades, note, panels, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def by_action(position_names: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the tokens of every action class: "layer2.kernel" belongs to "kernel"."""
    classes: dict[str, list[int]] = {}
    for position, name in enumerate(position_names):
        classes.setdefault(name.rpartition(".")[2], []).append(position)
    return classes


@style
def controller_entropy(num_evaluated, entropies, position_names: Sequence[str], choices: Sequence[int]) -> Figure:
    """Entropy of every action class over time, as a share of its largest; mean over layers.

    num_evaluated [n] children so far, entropies [n, T] nats, choices [T] how many values a token has.
    """
    num_evaluated, entropies, choices = np.asarray(num_evaluated), np.asarray(entropies, float), np.asarray(choices)
    figure, ax = canvas()
    ax.set(xlabel="children trained", ylabel="entropy / largest")
    if not len(num_evaluated):
        note(ax, "no population has been told")
        return figure
    for number, (action, positions) in enumerate(by_action(position_names).items()):
        free = [p for p in positions if choices[p] > 1]
        if free:
            share = entropies[:, free] / np.log(choices[free])
            look = {"color": COLOURS[number % len(COLOURS)], "ls": "--" if number >= len(COLOURS) else "-"}
            ax.plot(num_evaluated, share.mean(1), label=action.replace("_", " "), **look)
    ax.set_ylim(top=1.02)
    ax.legend(loc="lower left", ncols=2)
    return figure


@style
def controller_probabilities(
    probabilities, position_names: Sequence[str], values: Mapping[str, Sequence[object]]
) -> Figure:
    """Probability of every value of every action class, mean over layers, beside the uniform one.

    probabilities [T, V]; values: names of the choices by action class.
    """
    probabilities = np.asarray(probabilities, float)
    classes = by_action(position_names)
    figure, axes = panels(len(classes))
    for ax, (action, positions) in zip(axes, classes.items()):
        names = [str(value) for value in values[action]]
        ax.barh(names, probabilities[positions, : len(names)].mean(0), color=BLUE)
        ax.axvline(1 / len(names), color=ORANGE, lw=1.2, ls="--")
        ax.invert_yaxis()
        ax.set_title(action.replace("_", " "))
    return figure


@style
def controller_rewards(num_evaluated, rewards, curiosity, baseline) -> Figure:
    """External reward, what curiosity added to it, and the baseline, as means of populations; [n] each."""
    figure, ax = canvas()
    ax.set(xlabel="children trained", ylabel="reward")
    ax.plot(num_evaluated, rewards, color=BLUE, label="reward")
    ax.plot(num_evaluated, np.add(rewards, curiosity), color=ORANGE, lw=1.2, label="with curiosity")
    ax.plot(num_evaluated, baseline, color=INK, lw=1.2, ls="--", label="baseline")
    ax.legend(loc="best")
    return figure


@style
def controller_information(num_evaluated, gains, kl_prior, kl_sharpening) -> Figure:
    """Information gain and the divergences of the losses, in nats, on a logarithmic axis; [n] each."""
    figure, ax = canvas()
    ax.set(xlabel="children trained", ylabel="nats", yscale="log")
    series = {"information gain": gains, "from the prior": kl_prior, "sharpening": kl_sharpening}
    drawn = False
    for (name, values), colour in zip(series.items(), COLOURS):
        values = np.asarray(values, float)
        if np.any(values > 0):
            ax.plot(num_evaluated, np.where(values > 0, values, np.nan), color=colour, label=name)
            drawn = True
    if drawn:
        ax.legend(loc="best")
        label_decades(ax.yaxis)
    else:
        ax.set_yscale("linear")
        note(ax, "a plain LSTM has no posterior")
    return figure
