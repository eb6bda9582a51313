"""Runs the gateway: everything put together, from an empty process to the last recorded goodbye."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from bastion.errors import AccessRefused, BastionError, ConfigError, RecordingError
from bastion.gateway import records
from bastion.gateway.clock import Clock
from bastion.gateway.confinement import confine
from bastion.gateway.control import application
from bastion.gateway.desk import Desk
from bastion.gateway.door import GatewayDoor
from bastion.gateway.hub import Hub
from bastion.gateway.ledger import StoreLedger
from bastion.gateway.lifetime import Lifetime, private_directory
from bastion.gateway.refusals import Refusals
from bastion.gateway.service import Place, Service
from bastion.gateway.serving import connections
from bastion.gateway.state import State
from bastion.identity.tickets import Tickets
from bastion.protocols.contract import Endpoint, installed, load
from bastion.store.reader import Reader
from bastion.store.writer import Recorder
from bastion.vault.sources import Vault

_log = logging.getLogger("bastion")
_SOCKET = "control.sock"
_STOP_WAITS = 5.0
_CONNECTIONS = 256
"""Connections to the control API."""
_BACKLOG = 1024
_SILENT_AT_MOST = 10.0
"""Seconds that one of them may take for its request."""


def run(state: State, *, ready: int | None = None) -> None:
    """Run the gateway until it is told to stop (SIGTERM, SIGINT) or its recording breaks.

    `ready` is a file descriptor that gets one byte, and is closed, once clients may come. Raises `ConfigError` when
    it cannot be set up, `RecordingError` when the recording broke and everything was ended for it.
    """
    confine()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    _log.setLevel(logging.INFO)
    private_directory(state.config.state_dir)
    lifetime = Lifetime(state.config.runtime_dir)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_Gateway(state).serve(ready))
    finally:
        lifetime.end()


class _Gateway:
    """One run of the gateway."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._clock = Clock()
        self._stopping = asyncio.Event()
        self._broken: RecordingError | None = None

    async def serve(self, ready: int | None) -> None:
        """Set everything up, say so, wait for the end, and take everything down in order."""
        config = self._state.config
        recorder = Recorder.open(config.state_dir, now=self._clock.microseconds, on_failure=self._recording_broke)
        try:
            self._recorder = recorder
            self._hub = Hub(recorder, self._recording_broke)
            self._desk = Desk(
                StoreLedger(recorder),
                self._clock.now,
                capacity=config.limits.held,
                per_session=config.limits.held_per_session,
                per_identity=config.limits.held_per_identity,
            )
            tickets = self._tickets = Tickets(now=self._clock.now, monotonic=self._clock.monotonic)
            refusals = Refusals(recorder.audit, self._clock.monotonic)
            vault = Vault(config.secrets_path, self._state.environment)
            self._door = GatewayDoor(
                recorder=recorder,
                hub=self._hub,
                desk=self._desk,
                refusals=refusals,
                tickets=tickets,
                vault=vault,
                targets=lambda: self._state.config.targets,
                policy=lambda: self._state.policy,
                limits=config.limits,
                now=self._clock.now,
            )
            endpoints = self._endpoints()
            service = Service(
                state=self._state,
                door=self._door,
                desk=self._desk,
                refusals=refusals,
                tickets=tickets,
                recorder=recorder,
                reader=lambda: Reader.open(config.state_dir),
                endpoints=endpoints,
                place=Place(str(config.runtime_dir), {s.name: s.default_port for s in installed().values()}),
                clock=self._clock,
            )
            self._started()
            await recorder.synced()
            await self._answer(service, endpoints, ready)
            if self._broken is None:
                refusals.settle()
        finally:
            recorder.close()
        if self._broken is not None:
            raise self._broken

    def _endpoints(self) -> dict[str, Endpoint]:
        return {s.name: load(s.endpoint)(self._door, self._clock) for s in installed().values()}

    async def _answer(self, service: Service, endpoints: dict[str, Endpoint], ready: int | None) -> None:
        """Listen until told to stop, then end what runs."""
        directory = self._state.config.runtime_dir
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        with contextlib.closing(unix_socket(directory / _SOCKET)) as listener:
            server = _Server(
                uvicorn.Config(
                    application(service),
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    lifespan="off",
                    http=connections(_CONNECTIONS, _SILENT_AT_MOST),
                    timeout_keep_alive=5,
                    timeout_graceful_shutdown=2,
                    backlog=_BACKLOG,
                )
            )
            serving = loop.create_task(server.serve(sockets=[listener]))
            for endpoint in endpoints.values():
                await endpoint.listen(directory)
            _settle_memory()
            if ready is not None:
                os.write(ready, b"1")
                os.close(ready)
            _log.info("listening in %s", directory)
            stopping = loop.create_task(self._stopping.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for endpoint in endpoints.values():
                await endpoint.close()
            self._desk.withdraw_all("the gateway stopped")
            self._door.end_all(BastionError("the gateway was stopped", hint="connect again when it is back"))
            await self._door.emptied(_STOP_WAITS)
            server.should_exit = True
            await serving
            stopping.cancel()
        (directory / _SOCKET).unlink(missing_ok=True)

    def _started(self) -> None:
        policy = self._state.policy
        self._recorder.keep_policy(policy.version, policy.text)
        self._recorder.audit(records.audited("started", "", {"policy": policy.version, "pid": os.getpid()}))

    def _reload(self) -> None:
        """Read configuration and policy again; keep the old ones, with a mark, if the new don't load."""
        issuer = self._state.config.issuer
        error = self._state.reload()
        detail = {"policy": self._state.policy.version, "error": error}
        try:
            if not error:
                self._recorder.keep_policy(self._state.policy.version, self._state.policy.text)
                self._desk.withdraw_all("the policy was loaded again; ask again")
                if self._state.config.issuer != issuer:
                    # Who somebody is, and of what kind, was read by rules that no longer hold.
                    self._tickets.void()
                    self._door.end_all(AccessRefused("identities are proven anew", hint="log in, then connect again"))
                self._door.end_changed()
            self._recorder.audit(records.audited("reloaded", "", detail))
            self._recorder.written()
        except RecordingError as broken:
            self._recording_broke(broken)
        if error:
            _log.error("not reloaded: %s", error)
        else:
            _log.info("reloaded")

    def _recording_broke(self, error: RecordingError) -> None:
        """End everything: what cannot be recorded does not go on."""
        if self._broken is None:
            self._broken = error
            _log.critical("%s", error.message)
            self._door.recording_broke(error)
            self._stopping.set()


def _settle_memory() -> None:
    """Take what is here to stay out of the garbage collector's sight, and have it look less often.

    A statement leaves no cycles behind, so looking for them after every few hundred objects only makes it wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def unix_socket(path: Path) -> socket.socket:
    """Return a listening unix socket at `path`, mode 0600, replacing one that a dead gateway left behind."""
    encoded = os.fsencode(path)
    if len(encoded) > 103:
        raise ConfigError(
            str(path),
            expected="a path of at most 103 bytes, as unix sockets demand",
            found=f"{len(encoded)} bytes",
            hint="set BASTION_RUNTIME_DIR to a shorter directory",
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(encoded)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is installed: about a tenth faster on the relay's path."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
