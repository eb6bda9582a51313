"""Every error bastion raises on purpose, in one tree.

A denial is a value (`bastion.model.verdict.Deny`), never one of these: "no" is not "broken".

    BastionError                 code, exit_status, hint
    ├─ UsageError          2     the command line cannot be understood
    ├─ ConfigError        78     where, what was expected, what was found
    ├─ ProtocolError      76     a peer broke its protocol: close
    │  ├─ LimitExceeded          more than we will hold
    │  └─ UnreadableStream       forwarding would leave our sight
    ├─ AccessError        77
    │  ├─ AuthenticationFailed   says nothing about which part failed
    │  └─ AccessRefused          carries the words the person may read
    ├─ TargetError        69
    │  ├─ TargetUnreachable
    │  ├─ TargetRefused          reached, but it does not let us in
    │  └─ TargetUntrusted        certificate or host key
    ├─ GatewayError       69     the client side cannot reach or understand the gateway
    ├─ IssuerError        69     the identity provider cannot be reached or answers nonsense
    ├─ RecordingError     74     cannot write: nothing proceeds
    │  └─ RecordingBroken 65     the chain does not hold, at entry n
    └─ ApprovalError      77     not yours, settled, expired

No message carries a statement, a cell or a secret: these texts reach terminals, logs and chat.
"""

from typing import ClassVar


class BastionError(Exception):
    """A failure that bastion raises on purpose: words for people, a code for machines, an exit status."""

    code: ClassVar[str] = "bastion"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BastionError):
    """The command line asks for something that does not exist or does not fit together."""

    code = "usage"
    exit_status = 2


class ConfigError(BastionError):
    """A file or variable that configures bastion is wrong; says where, what was expected and what was found."""

    code = "config"
    exit_status = 78

    def __init__(self, where: str, *, expected: str, found: object, hint: str = "") -> None:
        super().__init__(f"{where}: expected {expected}, found {found}", hint=hint)
        self.where = where
        self.expected = expected
        self.found = found


class ProtocolError(BastionError):
    """A peer broke its protocol; the conversation cannot go on."""

    code = "protocol"
    exit_status = 76


class LimitExceeded(ProtocolError):
    """A peer asked us to hold more than we hold for anybody."""

    code = "protocol.limit"


class UnreadableStream(ProtocolError):
    """What follows could not be read, so it is not forwarded."""

    code = "protocol.unreadable"


class AccessError(BastionError):
    """The identity is not proven, or may not do this."""

    code = "access"
    exit_status = 77


class AuthenticationFailed(AccessError):
    """No identity was proven. Never says which part failed."""

    code = "access.authentication"


class AccessRefused(AccessError):
    """The identity is known and may not do this; the message is for the person to read."""

    code = "access.refused"


class TargetError(BastionError):
    """Something is wrong between the gateway and a target."""

    code = "target"
    exit_status = 69


class TargetUnreachable(TargetError):
    """No connection to the target came about."""

    code = "target.unreachable"


class TargetRefused(TargetError):
    """The target was reached and did not let the gateway in."""

    code = "target.refused"


class TargetUntrusted(TargetError):
    """The target did not prove that it is the one that was configured."""

    code = "target.untrusted"


class GatewayError(BastionError):
    """The gateway cannot be reached, or its answer cannot be understood."""

    code = "gateway"
    exit_status = 69


class IssuerError(BastionError):
    """The identity provider cannot be reached, or answers against its specification."""

    code = "issuer"
    exit_status = 69


class RecordingError(BastionError):
    """The recording cannot be written; nothing that needs one may proceed."""

    code = "recording"
    exit_status = 74


class RecordingBroken(RecordingError):
    """A stored recording does not match its hash chain, first at entry `entry` of session `session`."""

    code = "recording.broken"
    exit_status = 65

    def __init__(self, session: str, entry: int, message: str) -> None:
        super().__init__(message)
        self.session = session
        self.entry = entry


class ApprovalError(BastionError):
    """An approval that cannot be given: not this person's to give, already settled, or expired."""

    code = "approval"
    exit_status = 77
