"""Brings a person to a target: a loopback endpoint, and the target's own client tools pointed at it."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bastion.cli.output import OUT
from bastion.client.gateway import Gateway
from bastion.client.loopback import IssueTicket, PrivateLoopback, PublicLoopback
from bastion.errors import GatewayError, UsageError
from bastion.paths import data_dir
from bastion.protocols.clientside import ConnectRequest, Hints, IssuedTicket, LoopbackAddress, Step
from bastion.protocols.contract import ClientTools, installed, load


def steps(commands: Sequence[str], files: Sequence[str], terminal: bool) -> tuple[Step, ...]:
    """Return what to run without a terminal: the commands, then the files, else what comes through a pipe."""
    given = [Step(text=text) for text in commands] + [Step(path=path) for path in files]
    if not given and not terminal:
        given.append(Step(path="-"))
    return tuple(given)


def open_session(
    gateway: Gateway,
    target: str,
    *,
    reason: str,
    program: str = "",
    steps: tuple[Step, ...] = (),
    form: str = "aligned",
    tuples_only: bool = False,
    stop_on_error: bool = False,
) -> int:
    """Open a session and return the exit status that its client ends with."""
    tools = _tools(gateway, target)
    with PrivateLoopback(target, tools.loopback, _issuer(gateway, target, reason)) as address:
        request = ConnectRequest(
            address,
            OUT,
            program=program,
            steps=steps,
            form=form,
            tuples_only=tuples_only,
            stop_on_error=stop_on_error,
            data_dir=data_dir(),
        )
        status: int = load(tools.connect)(request)
        return status


def run_once(gateway: Gateway, target: str, text: str, *, reason: str, as_json: bool) -> int:
    """Run statements once and return the exit status for a program: denied and expired have their own."""
    tools = _tools(gateway, target)
    with PrivateLoopback(target, tools.loopback, _issuer(gateway, target, reason)) as address:
        request = ConnectRequest(
            address, OUT, steps=(Step(text=text),), form="json" if as_json else "aligned", once=True
        )
        status: int = load(tools.connect)(request)
        return status


def open_tunnel(gateway: Gateway, target: str, port: int, *, reason: str, as_json: bool) -> None:
    """Serve a loopback port until the person ends it."""
    tools = _tools(gateway, target)
    endpoint = PublicLoopback(target, tools.loopback, _issuer(gateway, target, reason), port)
    hints: Hints = load(tools.hints)
    asyncio.run(_serve(endpoint, hints, as_json=as_json))


async def _serve(endpoint: PublicLoopback, hints: Hints, *, as_json: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    async with endpoint as address:
        _print_tunnel(address, hints(address), as_json=as_json)
        await ended.wait()
    OUT.say("the tunnel is closed")


def _print_tunnel(address: LoopbackAddress, ways: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        OUT.data(
            {
                "target": address.target,
                "host": address.host,
                "port": address.port,
                "password": address.password,
                "clients": dict(ways),
            }
        )
        return
    OUT.say(f"{address.target} is at {address.host}:{address.port} until Ctrl-C")
    for label, lines in ways:
        OUT.heading(label)
        for line in lines.split("\n"):
            OUT.command(line)


def _issuer(gateway: Gateway, target: str, reason: str) -> IssueTicket:
    def issue(client: str) -> IssuedTicket:
        found = gateway.ticket(target, reason=reason, client=client)
        return _ticket(found)

    return issue


def _ticket(found: dict[str, Any]) -> IssuedTicket:
    try:
        return IssuedTicket(
            str(found["ticket"]), str(found["target"]), Path(str(found["directory"])), int(found["port"])
        )
    except (KeyError, ValueError) as error:
        raise GatewayError(f"the gateway's ticket cannot be read: {error}") from error


def _tools(gateway: Gateway, target: str) -> ClientTools:
    """Return the client tools of the target's protocol, if this person may reach the target at all."""
    found = next((t for t in gateway.targets() if t.get("name") == target), None)
    if found is None:
        raise UsageError(f"no target named {target} is open to you", hint="`bastion targets` lists those that are")
    spec = installed().get(str(found.get("protocol")))
    if spec is None:
        raise UsageError(f"{target} speaks {found.get('protocol')}, which this command line does not")
    return spec.client
