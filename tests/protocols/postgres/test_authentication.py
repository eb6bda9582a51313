"""How the gateway logs in to a target: as configured, and never by less."""

import base64
import hashlib
import struct
from pathlib import Path

import pytest
from scramp import ScramMechanism

from bastion.errors import BastionError, ProtocolError, TargetRefused, TargetUntrusted
from bastion.model.target import CredentialSource, Target
from bastion.protocols.postgres.authentication import Authentication, Method
from bastion.protocols.postgres.dialing import Reached, dial
from bastion.protocols.postgres.options import ChannelBinding, PostgresOptions, Tls, TlsMode
from tests.kit.postgres import PASSWORD, Fleet, Server
from tests.kit.versions import MAJORS, installation_of
from tests.protocols.postgres.wire import split

OK = struct.pack(">I", 0)
CLEARTEXT = struct.pack(">I", 3)
MD5 = struct.pack(">I", 5) + b"salt"
BINDING = b"b" * 32


def sasl(*mechanisms: str) -> bytes:
    return struct.pack(">I", 10) + b"".join(name.encode() + b"\0" for name in mechanisms) + b"\0"


def authentication(
    method: Method, *, password: str = PASSWORD, binding: bytes | None = None, **more: bool
) -> Authentication:
    return Authentication(method, "app_rw", password.encode(), binding=binding, **more)


class Scram:
    """The target's half of SCRAM."""

    def __init__(self, mechanism: str = "SCRAM-SHA-256", binding: bytes | None = None) -> None:
        kind = ScramMechanism(mechanism)
        salt, stored, key, iterations = kind.make_auth_info(PASSWORD)
        bound = None if binding is None else ("tls-server-end-point", binding)
        self.server = kind.make_server(lambda _: (salt, stored, key, iterations), channel_binding=bound)

    def first(self, answer: bytes) -> bytes:
        ((_, body),) = split(answer)
        mechanism, _, rest = body.partition(b"\0")
        self.mechanism = mechanism.decode()
        self.server.set_client_first(rest[4:].decode())
        return struct.pack(">I", 11) + self.server.get_server_first().encode()

    def final(self, answer: bytes) -> bytes:
        ((_, body),) = split(answer)
        self.server.set_client_final(body.decode())
        return struct.pack(">I", 12) + self.server.get_server_final().encode()


@pytest.mark.parametrize("bound", [False, True])
def test_scram_proves_both_sides(bound: bool) -> None:
    binding = BINDING if bound else None
    mine = authentication(Method.SCRAM, binding=binding)
    theirs = Scram("SCRAM-SHA-256-PLUS" if bound else "SCRAM-SHA-256", binding)
    offered = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if bound else ("SCRAM-SHA-256",)
    answer = mine.received(sasl(*offered))
    assert answer is not None
    answer = mine.received(theirs.first(answer))
    assert answer is not None
    assert mine.received(theirs.final(answer)) is None
    assert not mine.done
    mine.received(OK)
    assert mine.done
    assert theirs.mechanism == ("SCRAM-SHA-256-PLUS" if bound else "SCRAM-SHA-256")


def test_removed_channel_binding_is_noticed_by_the_target() -> None:
    mine = authentication(Method.SCRAM, binding=BINDING)
    answer = mine.received(sasl("SCRAM-SHA-256"))
    assert answer is not None
    assert b"y,," in answer


def test_required_channel_binding_is_required() -> None:
    for binding in (None, BINDING):
        with pytest.raises(TargetUntrusted):
            authentication(Method.SCRAM, binding=binding, require_binding=True).received(sasl("SCRAM-SHA-256"))


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        (Method.SCRAM, CLEARTEXT),
        (Method.SCRAM, MD5),
        (Method.SCRAM, OK),
        (Method.SCRAM, sasl("SCRAM-SHA-1")),
        (Method.SCRAM, struct.pack(">I", 7)),
        (Method.SCRAM, struct.pack(">I", 9)),
        (Method.MD5, CLEARTEXT),
        (Method.MD5, OK),
        (Method.MD5, sasl("SCRAM-SHA-256")),
        (Method.PASSWORD, OK),
        (Method.TRUST, CLEARTEXT),
        (Method.CERTIFICATE, CLEARTEXT),
        (Method.CERTIFICATE, sasl("SCRAM-SHA-256")),
    ],
)
def test_target_that_asks_for_something_else_gets_nothing(method: Method, asked: bytes) -> None:
    with pytest.raises(TargetUntrusted):
        authentication(method).received(asked)


def test_target_that_does_not_know_the_password_is_not_trusted() -> None:
    mine = authentication(Method.SCRAM)
    theirs = Scram()
    answer = mine.received(sasl("SCRAM-SHA-256"))
    assert answer is not None
    mine.received(theirs.first(answer))
    forged = base64.b64encode(hashlib.sha256(b"guess").digest()).decode()
    with pytest.raises(TargetUntrusted):
        mine.received(struct.pack(">I", 12) + f"v={forged}".encode())


def test_accepted_before_the_proof_is_not_trusted() -> None:
    mine = authentication(Method.SCRAM)
    answer = mine.received(sasl("SCRAM-SHA-256"))
    assert answer is not None
    mine.received(Scram().first(answer))
    with pytest.raises(TargetUntrusted):
        mine.received(OK)


@pytest.mark.parametrize("first", [b"nonsense", b"r=x,s=,i=1", b"\xff\xfe", b"r=,s=QUJD,i=4096", b"i=0"])
def test_nonsense_in_scram_raises_only_our_errors(first: bytes) -> None:
    mine = authentication(Method.SCRAM)
    mine.received(sasl("SCRAM-SHA-256"))
    with pytest.raises(BastionError):
        mine.received(struct.pack(">I", 11) + first)


def test_absurd_number_of_iterations_is_refused() -> None:
    mine = authentication(Method.SCRAM)
    answer = mine.received(sasl("SCRAM-SHA-256"))
    assert answer is not None
    nonce = answer.partition(b"r=")[2].decode()
    with pytest.raises(TargetUntrusted):
        mine.received(struct.pack(">I", 11) + f"r={nonce}more,s=QUJDREVGR0g=,i=2000000000".encode())


def test_scram_out_of_order_is_refused() -> None:
    with pytest.raises(ProtocolError):
        authentication(Method.SCRAM).received(struct.pack(">I", 12) + b"v=x")


def test_md5_and_password_answer_as_specified() -> None:
    inner = hashlib.md5(PASSWORD.encode() + b"app_rw").hexdigest()
    expected = b"md5" + hashlib.md5(inner.encode() + b"salt").hexdigest().encode() + b"\0"
    answer = authentication(Method.MD5).received(MD5)
    assert answer is not None
    assert split(answer) == [("p", expected)]
    mine = authentication(Method.PASSWORD)
    assert split(mine.received(CLEARTEXT) or b"") == [("p", PASSWORD.encode() + b"\0")]
    with pytest.raises(TargetRefused):
        mine.received(CLEARTEXT)


def test_no_error_tells_the_password() -> None:
    mine = authentication(Method.SCRAM, password="hunter2-canary")
    mine.received(sasl("SCRAM-SHA-256"))
    with pytest.raises(BastionError) as caught:
        mine.received(struct.pack(">I", 11) + b"r=x,s=y,i=z")
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2-canary" not in str(chain)
        chain = chain.__cause__


# Against a real server.


def target(server: Server, user: str = "app_rw", host: str = "127.0.0.1") -> Target:
    return Target("prod-db", "postgres", host, server.port, user, CredentialSource("none"))


async def reach(server: Server, user: str = "app_rw", password: str = PASSWORD, **options: object) -> Reached:
    host = str(options.pop("host", "127.0.0.1"))
    settings = PostgresOptions.model_validate({"database": "postgres", **options})
    reached = await dial(target(server, user, host), settings, password.encode())
    reached.dialogue.abort()
    await reached.dialogue.ended()
    return reached


@pytest.fixture
def tls(postgres: Server) -> Tls:
    return _verified(postgres)


def _verified(server: Server) -> Tls:
    assert server.ca is not None
    return Tls(mode=TlsMode.VERIFY_FULL, ca=server.ca)


@pytest.fixture(scope="module", params=[major for major in MAJORS if major < 18])
def encrypted(request: pytest.FixtureRequest, fleet: Fleet) -> Server:
    """A server of each version that is had with TLS, in turn."""
    return fleet(installation_of(request.param))


@pytest.mark.live
async def test_scram_with_channel_binding_over_verified_tls(encrypted: Server) -> None:
    bound = _verified(encrypted).model_copy(update={"channel_binding": ChannelBinding.REQUIRE})
    reached = await reach(encrypted, tls=bound)
    assert reached.encrypted
    assert reached.parameters[b"session_authorization"] == b"app_rw"
    assert len(reached.key) == 4


@pytest.mark.live
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
async def test_modes_without_an_authority(every_postgres: Server, mode: str) -> None:
    if mode == "require" and every_postgres.ca is None:
        with pytest.raises(TargetUntrusted):
            await reach(every_postgres, tls={"mode": mode})
        return
    reached = await reach(every_postgres, tls={"mode": mode})
    assert reached.encrypted == (mode in ("prefer", "require") and every_postgres.ca is not None)


@pytest.mark.live
async def test_allow_turns_to_tls_where_the_target_wants_it(postgres: Server) -> None:
    assert (await reach(postgres, "tlsonly", tls={"mode": "allow"})).encrypted


@pytest.mark.live
@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_certificate_of_an_unknown_authority_is_not_trusted(postgres: Server, mode: TlsMode) -> None:
    with pytest.raises(TargetUntrusted):
        await reach(postgres, tls={"mode": mode})


@pytest.mark.live
async def test_certificate_for_another_name_is_not_trusted(postgres: Server, tls: Tls) -> None:
    # 127.0.0.2 reaches the same listener where the machine has the whole of 127.0.0.0/8; else nothing does.
    with pytest.raises(BastionError):
        await reach(postgres, tls=tls, host="127.0.0.2")


@pytest.mark.live
@pytest.mark.parametrize(("user", "method"), [("md5user", Method.MD5), ("plainuser", Method.PASSWORD)])
async def test_weaker_methods_only_where_configured(encrypted: Server, user: str, method: Method) -> None:
    tls = _verified(encrypted)
    await reach(encrypted, user, tls=tls, authentication=method)
    with pytest.raises(TargetUntrusted):
        await reach(encrypted, user, tls=tls)


@pytest.mark.live
async def test_client_certificate(encrypted: Server) -> None:
    assert encrypted.client_certificate is not None
    pair = {"cert": encrypted.client_certificate.certificate, "key": encrypted.client_certificate.key}
    reached = await reach(encrypted, "certuser", "", tls=_verified(encrypted).model_copy(update=pair))
    assert reached.parameters[b"session_authorization"] == b"certuser"


@pytest.mark.live
async def test_trust_only_where_configured(postgres: Server) -> None:
    await reach(postgres, "trusted", "", tls={"mode": "disable"})
    with pytest.raises(TargetUntrusted):
        await reach(postgres, "trusted", PASSWORD, tls={"mode": "disable"})


@pytest.mark.live
async def test_wrong_password_is_told_without_it(postgres: Server, tls: Tls) -> None:
    with pytest.raises(TargetRefused) as caught:
        await reach(postgres, password="hunter2-canary", tls=tls)
    assert "hunter2-canary" not in str(caught.value)


@pytest.mark.live
async def test_unix_socket(postgres: Server) -> None:
    await reach(postgres, "app_rw", "", host=str(postgres.directory), authentication=Method.TRUST)


@pytest.mark.live
async def test_files_that_do_not_exist_are_an_error(postgres: Server, tmp_path: Path) -> None:
    with pytest.raises(BastionError):
        await reach(postgres, tls={"mode": "verify-full", "ca": tmp_path / "none.pem"})
