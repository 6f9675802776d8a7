"""Loads and unloads models of a running server, as clients request it (model control)."""

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from sigmax_server import model_config, repository
from sigmax_server._native import Order, Server
from sigmax_server.config import ServerConfig
from sigmax_server.device import Devices
from sigmax_server.graph import ContradictionError
from sigmax_server.load import load
from sigmax_server.location import Location
from sigmax_server.repository import Found, RepositoryError
from sigmax_server.say import warn_of_unused
from sigmax_server.setting import MOST_MODEL_NAME
from sigmax_server.table import Failed
from sigmax_server.text import short, shown, why


class Control:
    """Carries out the orders of clients.

    Loads and unloads are carried out one after the other; lists are answered in the meantime.
    Repositories are scanned for every order, so that models added later are found.
    """

    def __init__(
        self,
        server: Server,
        locations: Sequence[Location],
        config: ServerConfig,
        devices: Devices,
    ) -> None:
        self._server = server
        self._locations = locations
        self._config = config
        self._devices = devices
        self._changes: SimpleQueue[Order] = SimpleQueue()

    def start(self) -> None:
        """Start the two threads, which end with the server."""
        # Threads are daemons: the end of the process does not wait for a model being loaded.
        for work in (self._take, self._change):
            threading.Thread(target=work, name="control", daemon=True).start()

    def _take(self) -> None:
        while order := self._server.next_order():
            if order.action == "index":
                self._obey(order)
            else:
                self._changes.put(order)

    def _change(self) -> None:
        while True:
            self._obey(self._changes.get())

    def _obey(self, order: Order) -> None:
        try:
            if order.action == "load":
                self._load(order)
            elif order.action == "unload":
                self._keep(order.model, ())
                order.done([])
            else:
                order.done(sorted({found.name for found in self._scan()}))
        except Exception as error:  # the thread must live on for the next order
            order.failed(why(error))

    def _load(self, order: Order) -> None:
        try:
            models = self._find(order)
        except (ContradictionError, RepositoryError) as error:
            order.not_found(why(error))
            return
        warn_of_unused(models)
        known = self._server.versions(order.model)
        for found in models:
            self._server.declare(found.name, found.version)
        outcomes = [load(self._server, found, self._config, self._devices) for found in models]
        failures = [each for each in outcomes if isinstance(each, Failed)]
        if failures:
            if order.files:
                self._forget(models, known)
            order.failed(
                short("; ".join(f"version {each.version}: {each.reason}" for each in failures))
            )
            return
        self._keep(order.model, [found.version for found in models])
        order.done([])

    def _forget(self, models: Sequence[Found], known: Sequence[int]) -> None:
        """Drop uploaded versions that failed and were not known before: no repository has them."""
        for found in models:
            if found.version not in known:
                self._server.forget(found.name, found.version)

    def _keep(self, model: str, versions: Sequence[int]) -> None:
        """Unload every version of a model but these."""
        for version in self._server.versions(model):
            if version not in versions:
                self._server.unload(model, version)

    def _find(self, order: Order) -> list[Found]:
        if not order.model.isprintable() or len(order.model) > MOST_MODEL_NAME:
            raise ContradictionError(
                f"model name: expected at most {MOST_MODEL_NAME} printable characters, "
                f"got {shown(order.model)}"
            )
        text = order.config
        config = None if text is None else model_config.parse(text, order.model)
        if order.files:
            return repository.uploaded(order.model, config or {}, order.files)
        models = [found for found in self._scan() if found.name == order.model]
        if not models:
            raise RepositoryError("there is no such model")
        return models if config is None else repository.reconfigured(models, config)

    def _scan(self) -> list[Found]:
        return repository.scan(self._locations, may_be_empty=True)
