"""One side of `agad_step.py`, in a process of its own: prepares, and then trains or scores whenever it is asked to."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from interleaved import serve

from jaxad._utils.compile import kernel_options
from jaxad.data.batches import to_float
from jaxad.methods.agad import AGADConfig, agad
from jaxad.training import loop as training


def make_config(spec: dict[str, Any], compute: str = "float32") -> AGADConfig:
    """What is trained."""
    return AGADConfig(generator=spec["generator"], width=spec["width"], compute=compute)


def make_images(spec: dict[str, Any]) -> np.ndarray:
    """Noise, uint8 [N, H, W, C]: how long a step takes does not depend on what is seen."""
    shape = (spec["images"], spec["image_size"], spec["image_size"], spec["channels"])
    return np.random.default_rng(spec["seed"]).integers(0, 256, shape, np.uint8)


def make_labels(spec: dict[str, Any]) -> np.ndarray | None:
    """A tenth of the images is anomalous, where any are asked for."""
    return (np.arange(spec["images"]) % 10 == 9).astype(np.int32) if spec["anomalies"] else None


def milliseconds(score: Callable[[], Any], count: int) -> float:
    """Median of a call, after one to warm up."""
    score()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        score()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


class Ours:
    """jaxad's detector in jaxad's training loop, a chunk of steps at a time."""

    def __init__(self, spec: dict[str, Any]) -> None:
        jax.config.update("jax_enable_compilation_cache", False)
        self._spec, self._done, self._state = spec, 0, None
        self._images, self._labels = jax.device_put(make_images(spec)), make_labels(spec)
        self._detector = agad(make_config(spec, spec["compute"]))
        self._score = jax.jit(
            lambda state, images: self._detector.score(state, to_float(images)), compiler_options=kernel_options()
        )
        self.name = f"jax {jax.__version__}, {jax.devices()[0].device_kind}"

    def run(self, iterations: int) -> dict[str, float]:
        """Train on, and say what the last step did."""
        until, spec = self._done + iterations, self._spec
        self._state, history = training.fit(
            self._detector,
            jax.random.key(spec["seed"]),
            self._images,
            steps=until,
            batch_size=spec["batch_size"],
            labels=self._labels,
            anomalies_per_batch=spec["anomalies"] or None,
            chunk=spec["iterations"],
            state=self._state,
            start_step=self._done,
        )
        jax.block_until_ready(self._state)
        self._done = until
        return {name: float(values[-1]) for name, values in history.info._asdict().items()}

    def latency(self) -> float:
        """Milliseconds to score one image."""
        image = np.asarray(self._images[:1])
        return milliseconds(lambda: float(self._score(self._state, image)[0]), self._spec["scores"])


class Torch:
    """The same iteration in PyTorch."""

    def __init__(self, spec: dict[str, Any], *, channels_last: bool) -> None:
        import torch
        from agad_torch import Trainer

        torch.set_num_threads(spec["torch_threads"])
        torch.manual_seed(spec["seed"])
        torch.backends.cudnn.benchmark = True  # shapes never change
        self._torch, self._spec = torch, spec
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        images, labels = make_images(spec), make_labels(spec)
        self._images = torch.tensor(images.transpose(0, 3, 1, 2), device=self._device)
        self._labels = None if labels is None else torch.tensor(labels, device=self._device)
        self._trainer = Trainer(make_config(spec), images.shape[1:], device=self._device, channels_last=channels_last)
        self._batches = self._rows()
        where = torch.cuda.get_device_name() if self._device == "cuda" else f"{torch.get_num_threads()} threads"
        self.name = f"torch {torch.__version__}, {where}"

    def run(self, iterations: int) -> dict[str, float]:
        """Train on, and say what the last step did."""
        infos = []
        for _ in range(iterations):
            rows = next(self._batches)
            labels = None if self._labels is None else self._labels[rows]
            infos.append(self._trainer.step(self._images[rows].float() / 255, labels))
        return {name: float(value) for name, value in infos[-1].items()}  # waits for the device

    def latency(self) -> float:
        """Milliseconds to score one image."""
        image = self._images[:1].cpu()
        score = lambda: float(self._trainer.score(image.to(self._device).float() / 255)[0])  # noqa: E731
        return milliseconds(score, self._spec["scores"])

    def _rows(self) -> Iterator[Any]:
        torch, spec = self._torch, self._spec
        normal = spec["batch_size"] - spec["anomalies"]
        if self._labels is None:
            kinds = [torch.arange(len(self._images), device=self._device)]
        else:
            kinds = [torch.nonzero(self._labels == kind)[:, 0] for kind in (0, 1)]
        while True:
            order = kinds[0][torch.randperm(len(kinds[0]), device=self._device)]
            for rows in order[: len(order) // normal * normal].view(-1, normal):
                if self._labels is None:
                    yield rows
                    continue
                drawn = torch.randint(len(kinds[1]), (spec["anomalies"],), device=self._device)
                yield torch.cat([rows, kinds[1][drawn]])


METHODS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ours": Ours,
    "torch": lambda spec: Torch(spec, channels_last=False),
    "torch-channels-last": lambda spec: Torch(spec, channels_last=True),
}


def main(text: str) -> None:
    """Serve the side that the JSON describes until standard input ends."""
    serve(text, METHODS)
