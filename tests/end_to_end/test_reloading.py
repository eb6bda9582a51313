"""What a reload changes for those who are in already."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, ENVIRONMENT, Rig, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: engineers-read
    effect: allow
    who: {groups: [engineers]}
    sql: {access: read}
  - name: nobody-reads-secrets
    effect: deny
    where: {labels: {env: secret}}
  - name: there-is-one
    effect: allow
    who: {groups: [nobody]}
    where: {labels: {env: prod}}
    sql: {access: read}
"""


@pytest.fixture
def rig(postgres: Server, shop_database: str, issuer: Issuer) -> Iterator[Rig]:
    targets = {
        "shop": target(postgres, shop_database),
        "vault": target(postgres, shop_database, labels={"env": "secret"}),
    }
    with Rig(issuer, targets, POLICY, environment=ENVIRONMENT) as made:
        yield made


def relabelled(rig: Rig, postgres: Server, database: str) -> None:
    rig.configure(
        {
            "shop": target(postgres, database, labels={"env": "secret"}),
            "other": target(postgres, database),
        }
    )


def removed(rig: Rig, postgres: Server, database: str) -> None:
    rig.configure({"other": target(postgres, database), "vault": target(postgres, database, labels={"env": "secret"})})


def proven_otherwise(rig: Rig, postgres: Server, database: str) -> None:
    rig.configure(
        {"shop": target(postgres, database), "vault": target(postgres, database, labels={"env": "secret"})},
        identity={
            "issuer": rig.issuer.url,
            "client_id": "another-client",
            "audience": "bastion",
            "groups_claim": "groups",
        },
    )


@pytest.mark.parametrize("change", [relabelled, removed, proven_otherwise])
def test_a_session_does_not_outlive_what_it_was_opened_by(
    rig: Rig, postgres: Server, shop_database: str, change: Callable[[Rig, Server, str], None]
) -> None:
    waiting = rig.dsn(ALICE, "shop")
    with rig.connect(ALICE, "shop") as connection:
        assert connection.execute("select count(*) from people").fetchone() == (50,)
        change(rig, postgres, shop_database)
        assert rig.reload()["policy_error"] == ""
        with pytest.raises(psycopg.Error):
            connection.execute("select count(*) from people")
        assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(waiting)


def test_a_session_goes_on_where_nothing_about_it_changed(rig: Rig) -> None:
    with rig.connect(ALICE, "shop") as connection:
        assert (
            rig.reload(POLICY + "  - name: more\n    effect: deny\n    who: {groups: [nobody]}\n")["policy_error"] == ""
        )
        assert connection.execute("select count(*) from people").fetchone() == (50,)


def test_a_policy_that_anybody_can_write_is_not_loaded(rig: Rig) -> None:
    before = rig.status()["policy_version"]
    rig.policy.chmod(0o666)
    status = rig.reload(POLICY.replace("engineers-read", "everybody-reads"))
    assert "nobody else can write" in status["policy_error"]
    assert status["policy_version"] == before
    rig.stop()
    rig.launch()
    assert rig.process.wait(30) == 78
    assert "nobody else can write" in rig.logged
    rig.policy.chmod(0o600)
    rig.config.chmod(0o602)
    rig.launch()
    assert rig.process.wait(30) == 78
