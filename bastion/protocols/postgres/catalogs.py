"""The catalogs of targets, read through psycopg, each kept for every session of its database and role."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg

from bastion.errors import ProtocolError, TargetError, TargetRefused, TargetUnreachable
from bastion.model.target import Target
from bastion.model.text import visible
from bastion.protocols.postgres.authentication import Method
from bastion.protocols.postgres.options import PostgresOptions, TlsMode
from bastion.protocols.postgres.questions import SeenCatalog
from bastion.protocols.postgres.sql import building
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.changing import Changes
from bastion.protocols.postgres.sql.lineage.watching import Watched, watch
from bastion.protocols.postgres.sql.loading import load

_FRESH_FOR: Final = 60.0
"""Seconds for which sessions go by a catalog that was read. What others change at the target without this gateway, such
as a trigger that turns a harmless INSERT into another thing, is known to every session after that."""
_OWN_CACHE_BYTES: Final = 2 * 1024 * 1024
"""What the analyst of one session alone remembers of the texts that it has read."""
_PATIENCE: Final = 10
_LOOKS_EVERY: Final = 0.5
"""Seconds between looks at whether a process of the target's is gone."""
_IS_THERE: Final = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) %s::pg_catalog.int4"
_REQUIRED: Final = {
    Method.SCRAM: "scram-sha-256",
    Method.MD5: "md5",
    Method.PASSWORD: "password",
    Method.CERTIFICATE: "none",
    Method.TRUST: "none",
}
"""libpq's `require_auth` for each method: as strict as the gateway's own connections."""

_LOCKS_LAST: Final = "3s"
"""How long what is read may be locked, which may be by the very session that waits for it."""

Key = tuple[str, int, str, str, frozenset[str]]


class CatalogLocked(TargetRefused):
    """Somebody's transaction holds a lock on what has to be read, such as the table of a view that it has truncated."""


class ColumnsMissing(TargetRefused):
    """A mask names a column that the target does not have: what it was meant to cover would be shown."""


class Catalogs:
    """Reads and keeps catalogs."""

    def __init__(
        self,
        credential: Callable[[Target], Awaitable[bytes]],
        masked: Callable[[Target], frozenset[str]],
        monotonic: Callable[[], float],
        *,
        fresh_for: float = _FRESH_FOR,
    ) -> None:
        self._credential = credential
        self._masked = masked
        self._monotonic = monotonic
        self._fresh_for = fresh_for
        self._kept: dict[Key, tuple[float, CatalogAnalyst]] = {}
        self._locks: dict[Key, asyncio.Lock] = {}
        self._changes: dict[tuple[str, int, str], Changes] = {}

    async def analyst(self, target: Target, *, at_least: float | None = None) -> CatalogAnalyst:
        """Return an analyst with the target's catalog as it was read after `at_least`. Raises `TargetError`."""
        now = self._monotonic()
        wanted = now - self._fresh_for if at_least is None else at_least
        options = PostgresOptions.model_validate(dict(target.options))
        patterns = self._masked(target)
        key = (target.host, target.port, options.database, target.user, patterns)
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is not None and kept[0] >= wanted and not kept[1].outdated:
                return kept[1]
            changes = self._changes.setdefault(key[:3], Changes())
            as_of = changes.count
            # What is read from here on is at least as new as anything that was committed before this moment.
            began = self._monotonic()
            async with self.connection(target) as connection:
                try:
                    catalog = await load(connection)
                except psycopg.errors.LockNotAvailable as error:
                    raise CatalogLocked(f"the catalog of target {target.name} is locked by a transaction") from error
                except psycopg.Error as error:
                    raise _unreachable(target, error) from error
            analyst = CatalogAnalyst(
                catalog, changes=changes, as_of=as_of, watched=_watched(catalog, patterns), patterns=patterns
            )
            self._kept[key] = (began, analyst)
            # Sessions that have begun go by it no longer than those that begin; who is idle then asks for nothing.
            asyncio.get_running_loop().call_later(self._fresh_for, analyst.grow_old)
            return analyst

    async def view(self, seen: SeenCatalog) -> CatalogAnalyst:
        """Return an analyst for the one session that has seen this of its catalog."""
        shared = seen.analyst
        if not isinstance(shared, CatalogAnalyst):
            raise AssertionError("a session's own view is like that of an analyst with a catalog")

        def make() -> CatalogAnalyst:
            try:
                catalog = building.seen(building.decoded(seen.rows), shared.catalog.path)
            except (ValueError, LookupError, TypeError) as error:
                raise ProtocolError("the target's answer about its catalog cannot be read") from error
            return CatalogAnalyst(
                catalog,
                watched=_watched(catalog, shared.patterns),
                patterns=shared.patterns,
                cache_bytes=_OWN_CACHE_BYTES,
                changes=shared.changes,
                as_of=seen.as_of,
                private=True,
            )

        loop = asyncio.get_running_loop()
        analyst = await loop.run_in_executor(None, make)
        loop.call_later(self._fresh_for, analyst.grow_old)
        return analyst

    async def outlive(self, target: Target, process: int) -> None:
        """Return once the target's process for a session that has ended is gone, and its transaction with it."""
        while True:
            with contextlib.suppress(TargetError, psycopg.Error):
                async with self.connection(target, purpose="end") as connection:
                    found = await connection.execute(_IS_THERE, (process,))
                    if await found.fetchone() is None:
                        return
            await asyncio.sleep(_LOOKS_EVERY)

    @asynccontextmanager
    async def connection(self, target: Target, *, purpose: str = "catalog") -> AsyncIterator[psycopg.AsyncConnection]:
        """Open a connection of the gateway's own to `target`. Raises `TargetError`."""
        credential = await self._credential(target)
        options = PostgresOptions.model_validate(dict(target.options))
        try:
            connection = await psycopg.AsyncConnection.connect(
                **connection_parameters(target, options, credential, purpose), autocommit=True
            )
        except psycopg.Error as error:
            raise _unreachable(target, error) from error
        try:
            yield connection
        finally:
            await connection.close()


def _watched(catalog: Catalog, patterns: frozenset[str]) -> Watched:
    """Return the columns that masks name; raise `ColumnsMissing` where one of them is not there, or is a part's."""
    watched, useless = watch(catalog, sorted(patterns))
    if useless:
        raise ColumnsMissing(
            f"the policy masks {visible(useless[0])}, and database {catalog.database} has no such column, or has it in "
            "a table of which that one is a part",
            hint="an operator has to name in `masks` the columns that are there, and those of the whole table",
        )
    return watched


def connection_parameters(target: Target, options: PostgresOptions, credential: bytes, purpose: str) -> dict[str, Any]:
    """Return what libpq has to be told so that it connects exactly as the gateway itself does."""
    tls = options.tls
    parameters: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        "dbname": options.database,
        "user": target.user,
        "sslmode": tls.mode.value,
        "channel_binding": tls.channel_binding.value,
        "require_auth": _REQUIRED[options.method(credential)],
        "application_name": f"bastion {purpose}",
        "client_encoding": "UTF8",
        "connect_timeout": _PATIENCE,
        "options": f"-c standard_conforming_strings=on -c lock_timeout={_LOCKS_LAST}",
        # No file or variable of the gateway's own account adds anything to what was configured.
        "passfile": "/dev/null",
        "gssencmode": "disable",
    }
    if credential:
        parameters["password"] = credential.decode()
    if tls.mode in (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL) and tls.ca is None:
        parameters["sslrootcert"] = ssl.get_default_verify_paths().cafile or "system"
    elif tls.ca is not None:
        parameters["sslrootcert"] = str(tls.ca)
    if tls.cert is not None:
        parameters |= {"sslcert": str(tls.cert), "sslkey": str(tls.key)}
    return parameters


def _unreachable(target: Target, error: psycopg.Error) -> TargetUnreachable | TargetRefused:
    """Return an error of psycopg's as ours. Its text is the target's or libpq's, and holds no credential."""
    kind = TargetRefused if error.sqlstate else TargetUnreachable
    said = (error.diag.message_primary or str(error)).strip().splitlines() or ["no reason given"]
    return kind(f"the catalog of target {target.name} cannot be read: {visible(said[0])}")
