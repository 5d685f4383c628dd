"""The workers of a Dask cluster as an executor of the standard library; imports dask where one is asked for."""

import contextlib
import itertools
import uuid
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds for a scheduler, or for a first worker, to be there


class DaskPool(futures.Executor):
    """Calls functions on the workers of a cluster, by `distributed.Client.get_executor`.

    Workers whose calls were abandoned get no more of them while there are others.

    Args:
      scheduler: the address of a scheduler, or the path of a scheduler file.

    Raises:
      ValueError: dask is not installed, or nobody is there; in one line with the remedy.
    """

    def __init__(self, scheduler: str, patience: float = PATIENCE) -> None:
        try:
            import dask
            from distributed import Client
        except ImportError as error:
            raise ValueError("a scheduler needs dask and distributed: pip install 'jaxad[cluster]'") from error
        # Slices of weights are megabytes, and each is used once: nothing is gained by scattering them first.
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
        try:
            self._client = Client(**where, timeout=patience, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            said = str(error).split("\n")[0]
            raise ValueError(
                f"there is no scheduler at {scheduler} ({said}): start one, or give its address"
            ) from error
        self._scheduler, self._executor = scheduler, self._client.get_executor(pure=False)
        self._keys: dict[futures.Future, str] = {}
        self._names = (f"jaxad-{uuid.uuid4().hex}-{number}" for number in itertools.count())
        self._avoided: set[str] = set()
        try:
            self._client.wait_for_workers(1, timeout=patience)
        except (TimeoutError, OSError) as error:
            self._client.close()
            raise ValueError(f"the scheduler {scheduler} has no workers: start some with dask worker") from error

    def count(self) -> int:
        """How many workers there are, without those that hang."""
        return len(self._usable())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future:
        """Have a worker call a function; `BrokenExecutor` where the scheduler is gone."""
        if self._client.status != "running":
            raise futures.BrokenExecutor(f"the scheduler {self._scheduler} is gone")
        key = next(self._names)
        # Others are allowed, too: should those die, the call would wait for them for ever.
        where = {"workers": self._usable(), "allow_other_workers": True} if self._avoided else {}
        future = self._executor.submit(fn, *args, key=key, **where, **kwargs)
        self._keys[future] = key
        future.add_done_callback(lambda done: self._keys.pop(done, None))
        return future

    def abandon(self, future: futures.Future) -> None:
        """Cancel a call, and give its worker no other one."""
        key = self._keys.get(future)
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self._avoided |= {address for address, keys in self._client.processing().items() if key in keys}
        future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on; calls that have not ended are cancelled."""
        with contextlib.suppress(Exception):  # whatever a client says of a scheduler that is gone
            self._executor.shutdown(wait=False)
        with contextlib.suppress(Exception):
            self._client.close()

    def _usable(self) -> list[str]:
        """Addresses of workers; of those to avoid where there are no others."""
        known = list(self._client.scheduler_info(n_workers=-1)["workers"])
        return [address for address in known if address not in self._avoided] or known
