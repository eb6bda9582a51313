"""What the control API can do, free of HTTP: each answer holds only what the identity that asks may see."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

from bastion import __version__
from bastion.errors import AccessRefused, AuthenticationFailed, BastionError, UsageError
from bastion.gateway import records
from bastion.gateway.clock import Clock
from bastion.gateway.desk import Desk, describe
from bastion.gateway.door import GatewayDoor
from bastion.gateway.refusals import Refusals, short
from bastion.gateway.state import State, exported
from bastion.identity.tickets import Tickets
from bastion.identity.verification import TokenVerifier
from bastion.model.approval import Approval
from bastion.model.identity import Identity
from bastion.model.target import Target
from bastion.policy.evaluation import reach
from bastion.policy.explanation import explain
from bastion.protocols.contract import Endpoint
from bastion.store.reader import Reader, SessionRow, record
from bastion.store.writer import Recorder

_PREVIEW_WAITS = 10.0
"""Seconds that an approver waits for the impact of a request before it is shown without."""
_PREVIEWS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where this gateway lives, for clients that want to reach it."""

    directory: str
    ports: Mapping[str, int]
    """The port that names each protocol's unix socket."""


class Service:
    """The gateway's use cases."""

    def __init__(
        self,
        *,
        state: State,
        door: GatewayDoor,
        desk: Desk,
        refusals: Refusals,
        tickets: Tickets,
        recorder: Recorder,
        reader: Callable[[], Reader],
        endpoints: Mapping[str, Endpoint],
        place: Place,
        clock: Clock,
    ) -> None:
        self._state = state
        self._door = door
        self._desk = desk
        self._refusals = refusals
        self._tickets = tickets
        self._recorder = recorder
        self._reader = reader
        self._endpoints = endpoints
        self._place = place
        self._clock = clock
        self._started = clock.now()
        self._previews: dict[str, asyncio.Future[Mapping[str, object]]] = {}

    def status(self) -> dict[str, object]:
        """Return what anybody who reaches the socket may know."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started.isoformat(),
            "loaded": self._state.loaded.isoformat(),
            "reloads": self._state.reloads,
            "config": str(self._state.config.path),
            "policy_version": self._state.policy.version,
            "policy_error": self._state.reload_error,
            "sessions": len(self._door.sessions),
            "directory": self._place.directory,
        }

    def issuer(self) -> dict[str, object]:
        """Return where to log in."""
        settings = self._state.config.issuer
        return {
            "issuer": settings.issuer,
            "client_id": settings.client_id,
            "audience": settings.audience,
            "scopes": list(settings.scopes),
        }

    async def authenticate(self, token: str, path: str) -> Identity:
        """Return who a token proves; raise `AuthenticationFailed`, which only the record explains."""
        try:
            return await self._verifier().verify(token)
        except AuthenticationFailed as error:
            self._refusals.note("unauthenticated", "", {"path": path, "reason": getattr(error, "reason", "")})
            raise

    def whoami(self, identity: Identity) -> dict[str, object]:
        """Return what the gateway knows of an identity."""
        return {
            "subject": identity.subject,
            "name": identity.name,
            "issuer": identity.issuer,
            "groups": sorted(identity.groups),
            "kind": str(identity.kind),
            "actor": identity.actor,
            "expires": identity.expires.isoformat(),
            "auditor": self._is_auditor(identity),
        }

    def visible_targets(self, identity: Identity) -> list[dict[str, object]]:
        """Return the targets where some rule could let this identity do something."""
        found: list[dict[str, object]] = []
        for target in sorted(self._state.config.targets.values(), key=lambda t: t.name):
            effects = sorted(reach(self._state.policy, identity, target))
            if effects:
                found.append(
                    {
                        "name": target.name,
                        "protocol": target.protocol,
                        "labels": dict(target.labels),
                        "access": effects,
                    }
                )
        return found

    async def ticket(self, identity: Identity, target: str, reason: str, client: str) -> dict[str, object]:
        """Issue a ticket for one session at `target`."""
        found = self._reachable(identity, target)
        issued = self._tickets.issue(identity, found.name, reason[:1000], client[:200])
        self._audit("ticket", identity.subject, {"target": found.name, "token": identity.token_id})
        return {
            "ticket": issued.secret,
            "target": found.name,
            "protocol": found.protocol,
            "directory": self._place.directory,
            "port": self._place.ports[found.protocol],
            "expires": issued.expires.isoformat(),
        }

    def approvals(self, identity: Identity, *, settled: bool) -> list[dict[str, object]]:
        """Return the requests that this identity may see: its own, those it could vote on, all for an auditor."""
        known = (self._desk.past() if settled else []) + self._desk.waiting()
        return [self._describe(a) for a in known if self._may_see_approval(identity, a)]

    async def approval(self, identity: Identity, name: str) -> dict[str, object]:
        """Return one request with a preview of its impact, which whoever asked is not told.

        It counts what a condition selects. Asked with one condition after the other, it would tell them what no rule
        lets them read.
        """
        found = self._approval(identity, name)
        if identity.same_person(found.session.identity):
            return self._describe(found, {"unavailable": "it is told to those who decide"})
        return self._describe(found, await self._preview(found))

    async def vote(
        self, identity: Identity, name: str, *, approves: bool, shown: str, reason: str
    ) -> dict[str, object]:
        """Count a vote; what it decides is on the record before this returns."""
        found = self._approval(identity, name)
        try:
            voted = self._desk.vote(found.id, identity, approves=approves, reason=reason[:1000], shown=shown)
        except BastionError as error:
            act = {"approval": found.id, "approves": approves, "refused": error.message}
            self._audit("vote", identity.subject, act)
            raise
        act = {"approval": voted.id, "approves": approves, "digest": voted.digest, "token": identity.token_id}
        self._audit("vote", identity.subject, act)
        await self._recorder.synced()
        return self._describe(voted)

    async def sessions(
        self, identity: Identity, *, limit: int, before: str | None, target: str | None, subject: str | None
    ) -> list[dict[str, object]]:
        """Return recorded sessions, newest first: all for an auditor, their own for everybody else."""
        own = None if self._is_auditor(identity) else identity.key
        self._audit("list sessions", identity.subject, {"target": target or "", "subject": subject or ""})
        self._recorder.written()
        with self._reader() as reader:
            rows = reader.sessions(limit=limit, before=before, target=target, subject=subject, owner=own)
            return [row.summary() for row in rows]

    async def session(self, identity: Identity, name: str) -> dict[str, object]:
        """Return one recorded session's summary."""
        self._audit("read session", identity.subject, {"session": name})
        with self._reader() as reader:
            return self._recorded(reader, identity, name).summary()

    async def entries(self, identity: Identity, name: str, *, after: int, limit: int) -> dict[str, object]:
        """Return up to `limit` entries after `after`; output is told by its size only."""
        self._audit("read recording", identity.subject, {"session": name})
        self._recorder.written()
        with self._reader() as reader:
            row = self._recorded(reader, identity, name)
            found = [record(e) for e in reader.entries(row.id, after=after, limit=limit)]
        return {"entries": found, "next": found[-1]["seq"] if len(found) == limit else None}

    async def export(self, identity: Identity, name: str, form: str) -> AsyncIterator[str]:
        """Return a recording line by line, as asciicast (`cast`) or as JSON lines (`jsonl`)."""
        self._audit("export recording", identity.subject, {"session": name, "format": form})
        await self._recorder.synced()
        with self._reader() as reader:
            row = self._recorded(reader, identity, name)
        return _stepwise(lambda: exported(row, form, self._state.config.state_dir))

    async def explain(self, identity: Identity, target: str, text: str) -> dict[str, object]:
        """Return what the policy says of `text` at `target`, by which rule, and why the others did not decide."""
        found = self._reachable(identity, target)
        action = await self._endpoints[found.protocol].classify(found, text)
        explained = explain(self._state.policy, identity, found, action)
        understood = {
            "verb": action.verb,
            "access": action.access.name.lower(),
            "resources": records.resources(action),
            "facts": dict(action.facts),
        }
        verdict = records.verdict_record(explained.verdict)
        return {"target": found.name, **explained.as_record(), "verdict": verdict, "understood": understood}

    def _verifier(self) -> TokenVerifier:
        return self._state.verifier

    def _is_auditor(self, identity: Identity) -> bool:
        return not self._state.policy.auditors.isdisjoint(identity.groups)

    def _reachable(self, identity: Identity, name: str) -> Target:
        target = self._state.config.targets.get(name)
        if target is None or not reach(self._state.policy, identity, target):
            self._audit("refused", identity.subject, {"target": name, "reason": "no rule reaches it"})
            raise AccessRefused(
                f"there is no target {name[:64]!r} that you may reach", hint="`bastion targets` lists those you may"
            )
        return target

    def _may_see_approval(self, identity: Identity, approval: Approval) -> bool:
        """Tell whether an identity may know of a request: who asked, whose machine asked, who may decide, auditors."""
        if self._is_auditor(identity) or identity.same_person(approval.session.identity):
            return True
        return any(not d.approvers.isdisjoint(identity.groups) for d in approval.hold.demands)

    def _approval(self, identity: Identity, name: str) -> Approval:
        found = self._desk.find(name)
        if found is None or not self._may_see_approval(identity, found):
            raise UsageError(f"there is no request {name[:32]!r}", hint="`bastion approvals` lists what waits")
        return found

    def _recorded(self, reader: Reader, identity: Identity, name: str) -> SessionRow:
        row = reader.session(name)
        if row is None or not (self._is_auditor(identity) or (row.issuer, row.subject) == identity.key):
            raise UsageError(f"there is no session {name[:64]!r}", hint="`bastion sessions` lists those you may read")
        return row

    def _describe(self, approval: Approval, preview: Mapping[str, object] | None = None) -> dict[str, object]:
        return describe(approval, remaining=self._desk.remaining(approval), preview=preview)

    async def _preview(self, approval: Approval) -> Mapping[str, object]:
        if approval.id not in self._previews:
            if self._desk.remaining(approval) == 0:
                return {"unavailable": "the request is settled"}
            endpoint = self._endpoints[approval.session.target.protocol]
            work = endpoint.preview(approval.session, approval.action)
            self._previews[approval.id] = asyncio.ensure_future(work)
            while len(self._previews) > _PREVIEWS_KEPT:
                self._previews.pop(next(iter(self._previews))).cancel()
        try:
            return await asyncio.wait_for(asyncio.shield(self._previews[approval.id]), _PREVIEW_WAITS)
        except TimeoutError:
            return {"unavailable": f"the target took longer than {_PREVIEW_WAITS:.0f} s"}
        except BastionError as error:
            return {"unavailable": error.message}

    def _audit(self, what: str, by: str, detail: Mapping[str, object]) -> None:
        said = {name: short(value) if isinstance(value, str) else value for name, value in detail.items()}
        self._recorder.audit(records.audited(what, by, said))


async def _stepwise(lines: Callable[[], Iterator[str]]) -> AsyncIterator[str]:
    """Yield from a blocking iterator without holding up the event loop."""
    loop = asyncio.get_running_loop()
    steps = await loop.run_in_executor(None, lines)
    while (batch := await loop.run_in_executor(None, _take, steps)) != "":
        yield batch


def _take(steps: Iterator[str]) -> str:
    batch: list[str] = []
    size = 0
    for line in steps:
        batch.append(line)
        size += len(line)
        if size > 64 * 1024:
            break
    return "".join(batch)
