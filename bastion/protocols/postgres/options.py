"""The settings of a target that only PostgreSQL understands."""

import enum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bastion.policy.schema import Duration
from bastion.protocols.postgres.authentication import Method


class TlsMode(enum.StrEnum):
    """How the connection to the target is encrypted and whom it trusts; the names are libpq's."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class ChannelBinding(enum.StrEnum):
    """Whether SCRAM has to be bound to the TLS connection; the names are libpq's."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Section):
    """TLS towards the target. A target that is a unix socket has none."""

    mode: TlsMode = TlsMode.VERIFY_FULL
    """`verify-full` checks the certificate and that it is for the target's address; `verify-ca` only the certificate;
    `require` encrypts without checking; `prefer` and `allow` encrypt if the target will; `disable` never does."""
    ca: Path | None = None
    """The file of certificate authorities to trust (PEM); the machine's own where it is left out."""
    cert: Path | None = None
    """The gateway's client certificate (PEM), for targets that authenticate by one."""
    key: Path | None = None
    """The private key of `cert` (PEM, not encrypted)."""
    channel_binding: ChannelBinding = ChannelBinding.PREFER
    """Whether SCRAM is bound to the TLS connection: `require` refuses a target that does not offer it."""

    @model_validator(mode="after")
    def _pairs(self) -> "Tls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected both cert and key, or neither")
        return self


class Limits(_Section):
    """What one session at this target may make the gateway or the target do."""

    message: Annotated[int, Field(ge=64 * 1024, le=48 * 1024 * 1024)] = 32 * 1024 * 1024
    """Bytes of one message, such as a statement, a row or a line of COPY."""
    behind_a_hold: Annotated[int, Field(ge=64 * 1024, le=256 * 1024 * 1024)] = 16 * 1024 * 1024
    """Bytes that a client may send behind a statement that waits for approval."""
    statement: Duration | None = None
    """How long one statement may run (the target's statement_timeout) unless the session sets it otherwise."""
    idle_in_transaction: Duration | None = None
    """How long a transaction may idle (the target's idle_in_transaction_session_timeout), likewise."""

    def as_settings(self) -> dict[str, str]:
        """Return the target's own settings that keep these limits."""
        timeouts = {
            "statement_timeout": self.statement,
            "idle_in_transaction_session_timeout": self.idle_in_transaction,
        }
        return {name: f"{round(t.total_seconds() * 1000)}ms" for name, t in timeouts.items() if t is not None}


class PostgresOptions(_Section):
    """What a target of protocol `postgres` may set beside its address, user and credential."""

    database: Annotated[str, Field(min_length=1, max_length=63)]
    """The database to connect to."""
    tls: Tls = Tls()
    """TLS towards the target; verified in full unless told otherwise."""
    authentication: Method | None = None
    """How the gateway proves who it is: `scram-sha-256`, `md5`, `password`, `certificate` or `trust`. A target that
    asks for anything else is refused. Where it is left out: scram-sha-256 with a credential, certificate with a client
    certificate, trust with neither."""
    limits: Limits = Limits()
    """Bounds for one session."""

    def method(self, credential: bytes) -> Method:
        """Return the method of authentication that is demanded."""
        if self.authentication is not None:
            return self.authentication
        if credential:
            return Method.SCRAM
        return Method.CERTIFICATE if self.tls.cert is not None else Method.TRUST
