"""The catalog as it is read from real servers."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.building import path_of
from bastion.protocols.postgres.sql.loading import load


def test_reads_what_the_analysis_looks_up(analyst: CatalogAnalyst) -> None:
    catalog = analyst.catalog
    orders = catalog.relations["public", "orders"]
    assert list(orders.columns) == ["id", "user_id", "amount", "status", "note"]
    assert catalog.keys[orders.oid] == (frozenset({"id"}),)
    two = catalog.relations["public", "two_keys"]
    assert catalog.keys[two.oid] == (frozenset({"a", "b"}),)
    assert catalog.role == "gw_app"
    assert catalog.path == ("gw_app", "public")
    assert not catalog.privileged
    assert catalog.relations["pg_catalog", "pg_class"].system
    assert catalog.functions["purge_orders"][0].volatility == "v"
    assert not catalog.functions["purge_orders"][0].vouched
    assert all(function.vouched for function in catalog.functions["now"])
    view = catalog.relations["public", "v_contacts"]
    assert "users.email AS contact" in catalog.views[view.oid] or "email AS contact" in catalog.views[view.oid]


def test_a_superuser_is_told_apart(super_analyst: CatalogAnalyst) -> None:
    assert super_analyst.catalog.privileged


@pytest.mark.parametrize("autocommit", [True, False])
async def test_leaves_the_connection_as_it_was(dsn: str, autocommit: bool) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit) as connection:
        await load(connection)
        assert connection.autocommit is autocommit
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        shown = await (await connection.execute("SHOW search_path")).fetchone()
        assert shown == ('"$user", public',)


async def test_built_in_casts_and_operators_need_no_naming(analyst: CatalogAnalyst) -> None:
    catalog = analyst.catalog
    ours = {catalog.functions_by_oid[cast.function].full_name for cast in catalog.casts}
    assert ours == {"scratch.box2txt"}
    for name in ("=", "<", "||", "+", "~~", "->>", "@>"):
        for operator in catalog.operators[name]:
            function = catalog.functions_by_oid[operator.function]
            assert function.vouched or operator.schema != "pg_catalog", (name, function.full_name)


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ('"$user", public', ("me", "public")),
        ("Public", ("public",)),
        ('"A b", c', ("A b", "c")),
        ('"a""b"', ('a"b',)),
        ("", ()),
        ('""', ()),
        ('"open', ()),
        ('"a"b', ()),
    ],
)
def test_a_search_path_is_read_as_the_server_reads_it(setting: str, path: tuple[str, ...]) -> None:
    assert path_of(setting, "me") == path


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda name: name != "$user" and "\0" not in name), max_size=4))
def test_any_quoted_path_is_read_back(names: list[str]) -> None:
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert path_of(quoted, "me") == tuple(names)
