"""What is taken for texts that differ in their constants is what reading each of them would say."""

import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import Reading

PAIRS = [
    ("select * from public.orders where id = 1", "select * from public.orders where id = 'x; drop table orders'"),
    ("select * from public.orders where id = 1", "select * from public.orders where id = -7"),
    ("insert into public.orders (id, note) values (1, 'a')", "insert into public.orders (id, note) values (2, 'b')"),
    ("update public.orders set note = 'a' where id = 1", "update public.orders set note = 'b' where id = 2"),
    ("delete from public.orders where id = 1", "delete from public.orders where id = 2"),
    ("delete from public.orders where id = id", "delete from public.orders where id = id"),
    ("select set_config('search_path', '', false)", "select set_config('role', 'x', false)"),
    ("select nextval('seq1')", "select nextval('scratch.other')"),
    ("select id, note from public.orders order by 1", "select id, note from public.orders order by 2"),
    ("select id, count(*) from public.orders group/**/by 1", "select id, count(*) from public.orders group/**/by 2"),
    ("select 'public.orders'::regclass", "select 'pg_authid'::regclass"),
    ("select lower('a')", "select lower('b')"),
    ("select public.purge_orders() + 1", "select public.purge_orders() + 2"),
    ("select 1", "select 'x'::scratch.tidy"),
    ("set application_name = 'a'", "set application_name = 'b'"),
    ("alter role gw_app password 'one'", "alter role gw_app password 'two'"),
    ("select dblink('password=one', 'x')", "select dblink('password=two', 'y')"),
    ("select $$a$$", "select $$b$$"),
    ("select 1 /* ' */", "select 2 /* ' */"),
    ("select 'a' -- it's\n", "select 'b' -- it's\n"),
    ("copy public.orders to '/tmp/a'", "copy public.orders to '/tmp/b'"),
    (
        "explain analyze delete from public.orders where id = 1",
        "explain analyze delete from public.orders where id = 2",
    ),
    ("select 1; delete from public.orders where id = 1", "select 2; delete from public.orders where id = 2"),
    ("delete from public.orders where id = null", "delete from public.orders where id = 1"),
    ("delete from public.orders where id = 1 or 1 = 1", "delete from public.orders where id = 2 or 1 = 2"),
]

CONSTANTS = [
    "1",
    "-1",
    "1.0",
    "1e3",
    "99999999999999999999",
    "'x'",
    "'1'",
    "''",
    "E'a\\\\b'",
    "B'101'",
    "X'1F'",
    "U&'a'",
    "N'x'",
    "true",
    "false",
    "null",
    "'{1,2}'",
    "'(1,a)'",
    "'pg_authid'",
    "'search_path'",
    "current_date",
    "'2020-01-01'",
]
TEMPLATES = [
    "select {} from public.orders",
    "delete from public.orders where id = {}",
    "update public.orders set note = {} where id = {}",
    "select * from public.orders where id = {} and note = {}",
    "insert into public.orders(id, note) values ({}, {})",
    "insert into public.staging(id) values ({})",
    "select lower({})",
    "select {} + {}",
    "select {} || {}",
    "select * from public.orders limit {}",
    "select * from public.orders offset {}",
    "select case when {} then 1 else 2 end",
    "select coalesce({}, {})",
    "select {} = {}",
    "select {} in ({}, {})",
    "select {} like {}",
    "select nextval({})",
    "select set_config({}, {}, {})",
    "select current_setting({})",
    "select has_table_privilege({}, {})",
    "select pg_relation_size({})",
    "select to_regclass({})",
    "select array[{}, {}]",
    "select row({}, {})",
    "select ({})::text",
    "select ({})::int",
    "select cast({} as scratch.tidy)",
    "select * from generate_series({}, {})",
    "select format({}, {})",
    "select public.mail_of({})",
    "select public.purge_orders() + {}",
    "select * from public.orders where {}",
    "delete from public.orders where {}",
    "delete from public.orders where id = id + {}",
    "delete from public.orders where id = {} or id = {}",
    "delete from public.orders where id in ({})",
    "delete from public.orders where not id = {}",
    "delete from public.orders where id = {} is not null",
    "select count(*) filter (where {}) from public.orders",
    "select * from public.users where email = {}",
    "select extract(year from {})",
    "select substring({} from {} for {})",
    "select overlay({} placing {} from {})",
    "select {} at time zone {}",
    "select * from public.orders tablesample system({})",
    "select * from public.orders for update",
    "select query_to_xml({}, {}, {}, {})",
    "select pg_sleep({})",
    "select {}::public.users",
    "select ({}::public.users).email",
    "with d as (delete from public.orders where id = {} returning *) select * from d",
    "select * from public.v_orders where id = {}",
    "insert into public.v_orders(id) values ({})",
    "select {} is distinct from {}",
    "select nullif({}, {})",
    "select greatest({}, {})",
    "select xpath({}, {})",
    "select pg_advisory_lock({})",
    "select lo_get({})",
    "select pg_export_snapshot() || {}",
    "update public.orders set id = {} where id = {}",
    "update public.users set name = {}",
    "select scratch.upper({})",
    "select scratch.plus({}, {})",
    "select {} operator(scratch.+) {}",
]
"""Texts with places for constants: where a constant could matter, and where it should not."""


def meaning(reading: Reading) -> object:
    action = reading.action
    return (reading.sqlstate, reading.effects, action.verb, action.text, action.resources, action.secret, action.shown)


@pytest.mark.live
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_next_of_a_shape_means_what_reading_it_would_say(analyst: CatalogAnalyst, one: str, other: str) -> None:
    paths = frozenset({analyst.catalog.path})
    analyst.read(one.encode(), paths)
    for text in (other, one, other):
        assert meaning(analyst.read(text.encode(), paths)) == meaning(
            CatalogAnalyst(analyst.catalog).read(text.encode(), paths)
        )


@pytest.mark.live
def test_texts_of_a_shape_share_a_form_and_keep_their_text(analyst: CatalogAnalyst) -> None:
    paths = frozenset({analyst.catalog.path})
    texts = [f"select note from public.orders where id = {n}" for n in range(4)]
    actions = [analyst.read(text.encode(), paths).action for text in texts]
    assert [a.text for a in actions] == texts
    assert actions[1].form is actions[2].form is actions[3].form is not None
    assert len({a.digest() for a in actions}) == 4


@pytest.mark.live
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_constant_means_more_than_the_shape_says(analyst: CatalogAnalyst, template: str) -> None:
    paths = frozenset({analyst.catalog.path})
    texts = [template.replace("{}", constant).encode() for constant in CONSTANTS]
    read_alone = [meaning(CatalogAnalyst(analyst.catalog).read(text, paths)) for text in texts]
    for first in texts[::4]:
        reader = CatalogAnalyst(analyst.catalog)
        reader.read(first, paths)
        assert [meaning(reader.read(text, paths)) for text in texts] == read_alone
