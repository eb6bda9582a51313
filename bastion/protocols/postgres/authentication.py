"""How the gateway proves to a target who it is, and lets the target prove that it knows the password too.

The configuration says which method to use. A target that asks for less is not given the password: one that accepts
us without a proof, or by a method that shows it the password, may not be the one that was meant.
"""

import enum
import hashlib
from struct import Struct
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from scramp import ScramClient, ScramException

from bastion.errors import ProtocolError, TargetRefused, TargetUntrusted
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.messages import frame

_CODE: Final = Struct(">I")
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_SCRAM: Final = "SCRAM-SHA-256"
_SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"
_ITERATIONS_AT_MOST: Final = 1_000_000
"""A target that asks for more would have us do its brute forcing."""


class Method(enum.StrEnum):
    """How to prove who we are."""

    SCRAM = "scram-sha-256"
    MD5 = "md5"
    PASSWORD = "password"  # noqa: S105 -- the name of a method
    CERTIFICATE = "certificate"
    TRUST = "trust"


class Authentication:
    """One authentication as a client: the target's requests in, our answers out. Pure but for SCRAM's nonce."""

    def __init__(
        self, method: Method, user: str, password: bytes, *, binding: bytes | None, require_binding: bool = False
    ) -> None:
        self.done = False
        """Whether the target has let us in, and has proven itself as far as the method makes it."""
        self._method = method
        self._user = user
        self._secret = password
        self._binding = binding
        self._require_binding = require_binding
        self._scram: ScramClient | None = None
        self._answered = False
        self._verified = False

    def received(self, body: bytes) -> bytes | None:
        """Return our answer to the body of an Authentication message, if it wants one.

        Raises `TargetUntrusted` when the target asks for less than the configuration demands, or fails to prove itself.
        """
        if len(body) < _CODE.size or self.done:
            raise ProtocolError("expected one authentication")
        (code,) = _CODE.unpack_from(body)
        rest = body[_CODE.size :]
        match code, self._method:
            case 0, _:
                self._accepted()
                return None
            case 3, Method.PASSWORD:
                return self._answer(self._secret + b"\0")
            case 5, Method.MD5 if len(rest) == 4:
                return self._answer(_md5(self._user, self._secret, rest))
            case 10, Method.SCRAM:
                return self._first(rest)
            case 11, Method.SCRAM:
                return self._final(rest)
            case 12, Method.SCRAM:
                self._verify(rest)
                return None
        asked = _NAMES.get(code, "an unknown kind of")
        raise TargetUntrusted(
            f"the target asks for {asked} authentication, {self._method} is configured",
            hint="set `authentication` of the target if that is right",
        )

    def _accepted(self) -> None:
        match self._method:
            case Method.SCRAM:
                proven = self._verified
            case Method.MD5 | Method.PASSWORD:
                proven = self._answered
            case Method.CERTIFICATE | Method.TRUST:
                proven = True
        if not proven:
            raise TargetUntrusted(
                f"the target lets anybody in without {self._method} authentication, which is configured",
                hint="set `authentication: trust` for the target if that is right",
            )
        self.done = True

    def _answer(self, body: bytes) -> bytes:
        if self._answered or b"\0" in body[:-1]:
            raise TargetRefused("the target asked twice for the password, or the password holds a zero byte")
        self._answered = True
        return frame(m.PASSWORD, body)

    def _first(self, rest: bytes) -> bytes:
        if self._scram is not None:
            raise ProtocolError("expected one SASL authentication")
        offered = [name.decode("ascii", "replace") for name in rest.split(b"\0") if name]
        binds = self._binding is not None and _SCRAM_PLUS in offered
        if self._require_binding and not binds:
            raise TargetUntrusted("channel binding is required, and the target does not offer it")
        mechanism = _SCRAM_PLUS if binds else _SCRAM
        if mechanism not in offered:
            raise TargetUntrusted(f"the target does not offer {_SCRAM}")
        binding = None if self._binding is None else ("tls-server-end-point", self._binding)
        with _Mapped():
            self._scram = ScramClient([mechanism], self._user, self._secret.decode(), channel_binding=binding)
            first = self._scram.get_client_first().encode()
        return frame(m.PASSWORD, mechanism.encode() + b"\0" + _CODE.pack(len(first)) + first)

    def _final(self, rest: bytes) -> bytes:
        if self._scram is None or self._answered:
            raise ProtocolError("expected SASL to go in order")
        self._answered = True
        with _Mapped():
            self._scram.set_server_first(rest.decode("ascii"))
            if self._scram.iterations.value > _ITERATIONS_AT_MOST:
                raise TargetUntrusted(f"the target asks for more than {_ITERATIONS_AT_MOST} iterations of SCRAM")
            return frame(m.PASSWORD, self._scram.get_client_final().encode())

    def _verify(self, rest: bytes) -> None:
        if self._scram is None or not self._answered or self._verified:
            raise ProtocolError("expected SASL to go in order")
        with _Mapped():
            self._scram.set_server_final(rest.decode("ascii"))
        self._verified = True


def end_point(certificate: bytes) -> bytes | None:
    """Return the `tls-server-end-point` binding (RFC 5929) of a certificate in DER; None where it has none."""
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return digest.finalize()


class _Mapped:
    """Turns what scramp raises into errors of ours. Their texts are not passed on: they can quote the exchange."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ScramException | UnicodeError | ValueError):
            raise TargetUntrusted("the target did not prove by SCRAM that it knows the password") from error


def _md5(user: str, password: bytes, salt: bytes) -> bytes:
    inner = hashlib.md5(password + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode() + b"\0"


_NAMES: Final = {
    _CLEARTEXT: "cleartext password",
    _MD5: "md5",
    _SASL: "SCRAM",
    _SASL_CONTINUE: "SCRAM",
    _SASL_FINAL: "SCRAM",
    7: "GSSAPI",
    8: "GSSAPI",
    9: "SSPI",
}
