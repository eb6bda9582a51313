"""The configuration: `bastion.yaml` and the environment, read into values. Nothing else of the gateway reads them."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bastion import paths
from bastion.errors import ConfigError
from bastion.model.issuer import IssuerSettings
from bastion.model.target import CredentialSource, Target
from bastion.policy.document import ClauseSpec
from bastion.policy.marks import Marked, Problem, Problems, dotted, read
from bastion.policy.schema import Duration, Word
from bastion.policy.validation import shown, sort_of, suggestion, validated
from bastion.protocols.contract import ProtocolSpec, installed

_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Strings = Annotated[tuple[Word, ...], BeforeValidator(_listed)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class IdentityModel(_Model):
    """Who vouches for people and machines."""

    issuer: Word
    """The OpenID provider, exactly as its tokens name it; https, or http on this machine itself."""
    client_id: Word
    """What `bastion login` calls itself there."""
    audience: Word = "bastion"
    """What a token's `aud` must hold."""
    scopes: Strings = ("openid", "profile", "groups", "offline_access")
    """What `bastion login` asks for."""
    groups_claim: Word = "groups"
    """The claim that lists an identity's groups."""
    machine_clients: Strings = ()
    """Client ids whose tokens stand for machines, whatever else they say."""
    keys_survive: Duration = timedelta(hours=24)
    """How long the issuer's keys are trusted while it cannot be reached."""

    @model_validator(mode="after")
    def _reachable_safely(self) -> "IdentityModel":
        # What does not fit is not repeated: an address may carry a password, and this text reaches logs.
        try:
            url = urlsplit(self.issuer)
            _ = url.port  # is read only when asked for
        except ValueError:
            raise ValueError("expected an issuer of scheme, host and path, found no such address") from None
        if not url.hostname or url.query or url.fragment or url.username is not None:
            raise ValueError("expected an issuer of scheme, host and path, found less or more")
        local = url.hostname in {"127.0.0.1", "::1", "localhost"}
        if url.scheme != "https" and not (url.scheme == "http" and local):
            raise ValueError(f"expected an issuer with https, found {url.scheme or 'no scheme'!r}")
        return self


class CredentialModel(_Model):
    """Where a target's credential comes from: exactly one of these. It is fetched anew for each connection."""

    env: Word | None = None
    """A variable of the gateway's environment."""
    file: Word | None = None
    """The absolute path of a file; a line end at its end is not part of the credential."""
    command: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    """A program and its arguments, run without a shell; what it prints is the credential."""
    secret: Word | None = None
    """A name in the encrypted store that `bastion secret set` writes."""

    @model_validator(mode="after")
    def _one(self) -> "CredentialModel":
        if len(self.model_fields_set) != 1:
            raise ValueError(
                f"expected exactly one of env, file, command or secret, found {len(self.model_fields_set)}"
            )
        program = self.command[0] if self.command else self.file
        if program is not None and not program.startswith("/"):
            raise ValueError("expected an absolute path, found one that is not")
        return self

    def source(self) -> CredentialSource:
        """Return it as the vault takes it."""
        (kind,) = self.model_fields_set
        value = getattr(self, kind)
        return CredentialSource(kind, value if isinstance(value, tuple) else (value,))


class TargetModel(_Model):
    """One target. Beside these keys stand those of its protocol."""

    protocol: str
    """What it speaks, such as `postgres`."""
    address: str
    """`host`, `host:port`, `[address]:port`, or the absolute path of a directory of unix sockets (with `:port`)."""
    user: str = ""
    """Who the gateway is at the target."""
    credential: CredentialModel | None = None
    """Where the gateway's credential comes from; nothing for a target that asks for none."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What policies may tell targets apart by."""


class LimitsModel(_Model):
    """How much the gateway holds at once. Read when it starts: loading the configuration again leaves them alone."""

    sessions: int = Field(default=2000, ge=1, le=100_000)
    """Sessions open at the same time."""
    sessions_per_identity: int = Field(default=200, ge=1, le=100_000)
    """Sessions that one identity may have open."""
    held: int = Field(default=500, ge=1, le=10_000)
    """Requests that may wait for approval."""
    held_per_session: int = Field(default=4, ge=1, le=100)
    """Requests of one session that may wait for approval."""
    held_per_identity: int = Field(default=20, ge=1, le=10_000)
    """Requests of one identity that may wait for approval, so that nobody can take every place."""
    session_lifetime: Duration = timedelta(hours=12)
    """How long a session may last. It may outlast the token that opened it, with the groups that this one named."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the gateway is told by files and environment."""

    path: Path
    issuer: IssuerSettings
    targets: Mapping[str, Target]
    policy_path: Path
    state_dir: Path
    runtime_dir: Path
    limits: LimitsModel = field(default_factory=LimitsModel)

    @property
    def secrets_path(self) -> Path:
        """The encrypted store of credentials."""
        return self.state_dir / "secrets"


Limits = LimitsModel
_KEYS = ("identity", "targets", "policy", "limits")
_PRIVATE = frozenset({"credential", "address"})
"""Where people put passwords by mistake; what stands there is not repeated in errors."""
_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}(?<![-.])\.?")


def load(path: Path, environment: Mapping[str, str], content: Callable[[Path], bytes] = Path.read_bytes) -> Config:
    """Return the configuration of a file, with the directories that the environment names.

    `content` reads the file, and may refuse to. Raises `ConfigError` for a file that cannot be read and `Problems` with
    everything that is wrong in it.
    """
    document = _read(path, content)
    problems: list[Problem] = []
    value = document.value if isinstance(document.value, dict) else {}
    if not isinstance(document.value, dict):
        problems.append(Problem(document.place(()), "", "a mapping with identity and targets", sort_of(document.value)))
    for key in value:
        if key not in _KEYS:
            at = document.place((key,))
            problems.append(Problem(at, dotted((key,)), "a known key", repr(key), suggestion(key, _KEYS)))
    identity = _section(IdentityModel, document, "identity", problems)
    limits = _section(LimitsModel, document, "limits", problems) if "limits" in value else LimitsModel()
    targets = _targets(document, problems)
    policy = value.get("policy", "policy.yaml")
    if not isinstance(policy, str) or not policy:
        problems.append(Problem(document.place(("policy",)), "policy", "a path", shown(policy)))
    if problems or identity is None or limits is None:
        raise Problems(problems)
    return Config(
        path=path,
        issuer=IssuerSettings(**identity.model_dump()),
        targets=targets,
        policy_path=path.parent / policy,
        state_dir=paths.state_dir(environment),
        runtime_dir=paths.runtime_dir(environment),
        limits=limits,
    )


def clauses(specs: Mapping[str, ProtocolSpec] | None = None) -> dict[str, ClauseSpec]:
    """Return the clauses that rules may have, from the protocols that are installed."""
    found: dict[str, ClauseSpec] = {}
    for spec in (installed() if specs is None else specs).values():
        for name, model in spec.clauses.items():
            before = found.get(name)
            speaks = frozenset({spec.name}) | (before.protocols if before else frozenset())
            found[name] = ClauseSpec(model, speaks)
    return found


def kinds_of_mask() -> dict[str, frozenset[str]]:
    """Return the kinds of mask that each protocol can honour."""
    return {spec.name: spec.covers for spec in installed().values()}


def _read(path: Path, content: Callable[[Path], bytes]) -> Marked:
    try:
        return read(content(path), str(path))
    except FileNotFoundError:
        raise ConfigError(
            str(path),
            expected="a configuration",
            found="no file",
            hint="BASTION_CONFIG names one; `bastion demo` shows one at work",
        ) from None
    except OSError as error:
        raise ConfigError(str(path), expected="a readable file", found=error.strerror or "an error") from error


def _section(model: type[BaseModel], document: Marked, key: str, problems: list[Problem]) -> Any:
    value = document.value if isinstance(document.value, dict) else {}
    if key not in value:
        problems.append(Problem(document.place(()), key, f"{key!r} to be given", f"no {key!r}"))
        return None
    return validated(model, document, (key,), problems)


def _targets(document: Marked, problems: list[Problem]) -> dict[str, Target]:
    value = document.value.get("targets") if isinstance(document.value, dict) else None
    if not isinstance(value, dict) or not value:
        problems.append(Problem(document.place(("targets",)), "targets", "a mapping of names", sort_of(value)))
        return {}
    specs = installed()
    found = {}
    for name in value:
        target = _target(document, name, specs, problems)
        if target is not None:
            found[name] = target
    return found


def _target(document: Marked, name: str, specs: Mapping[str, ProtocolSpec], problems: list[Problem]) -> Target | None:
    before = len(problems)
    path = ("targets", name)
    raw = document.value["targets"][name]
    if not re.fullmatch(_NAME, name):
        expected = "a name of lower-case letters, digits, dots, dashes and underscores, at most 63"
        problems.append(Problem(document.place(path), dotted(path), expected, repr(name)))
    if not isinstance(raw, dict):
        problems.append(Problem(document.place(path), dotted(path), "a mapping", sort_of(raw)))
        return None
    spec = specs.get(str(raw.get("protocol")))
    if spec is None:
        at = (*path, "protocol")
        known = ", ".join(specs)
        problems.append(Problem(document.place(at), dotted(at), f"one of {known}", shown(raw.get("protocol"))))
        return None
    common = {key: v for key, v in raw.items() if key in TargetModel.model_fields}
    own = {key: v for key, v in raw.items() if key not in TargetModel.model_fields}
    known_keys = [*TargetModel.model_fields, *spec.options.model_fields]
    for key in own:
        if key not in spec.options.model_fields:
            at = (*path, key)
            problems.append(
                Problem(document.place(at), dotted(at), "a known key", repr(key), suggestion(key, known_keys))
            )
    own = {key: v for key, v in own.items() if key in spec.options.model_fields}
    model = validated(TargetModel, _with(document, name, common), path, problems, _PRIVATE)
    options = validated(spec.options, _with(document, name, own), path, problems)
    if model is None or options is None or len(problems) > before:
        return None
    address = _address(model.address, spec.default_port)
    if address is None:
        at = (*path, "address")
        expected = "host, host:port, [address]:port or the absolute path of a directory, with a port from 1 to 65535"
        problems.append(
            Problem(document.place(at), dotted(at), expected, "something else", _address_hint(model.address))
        )
        return None
    return Target(
        name=name,
        protocol=spec.name,
        host=address[0],
        port=address[1],
        user=model.user,
        credential=model.credential.source() if model.credential else CredentialSource("none"),
        labels=model.labels,
        options=options.model_dump(),
    )


def _with(document: Marked, name: str, part: object) -> Marked:
    targets = {**document.value["targets"], name: part}
    return Marked({**document.value, "targets": targets}, document.places)


def _address(text: str, default_port: int) -> tuple[str, int] | None:
    """Return host and port of an address, or None if it is not one."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        sound = bool(bracket) and _is_ipv6(host) and colon in {"", ":"}
    elif text.startswith("/"):
        # Only what can be a port ends the path: a directory may have a colon in its name.
        match = re.fullmatch(r"(.+?)(?:(:)([0-9]+))?", text)
        host, colon, port = match.groups("") if match else ("", "", "")
        sound = bool(host) and host.isprintable()
    else:
        host, colon, port = text.partition(":")
        sound = _HOST.fullmatch(host) is not None
    if not sound:
        return None
    if not colon:
        return host, default_port
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        return None
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _address_hint(text: str) -> str:
    """Return what may be wrong with an address, without a word of it."""
    if "://" in text or "@" in text:
        return "host and port only: the user is a key of its own, and so is the credential"
    if _is_ipv6(text):
        return "an IPv6 address goes in brackets"
    return ""


def first(problems: Problems) -> ConfigError:
    """Return problems as the error that the command line prints: all of them, the first one's hint."""
    head = problems.found[0]
    error = ConfigError(str(head.place), expected=head.expected, found=head.found, hint=head.hint)
    error.message = "\n".join(map(str, problems.found))
    error.args = (error.message,)
    return error
