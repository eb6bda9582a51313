"""What a change of the catalog bears on while it is under way, and which changes only add to it."""

import gc
from dataclasses import replace

import pytest

from bastion.model.action import Access, Resource
from bastion.protocols.postgres.sql import definers
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Reference
from bastion.protocols.postgres.sql.changing import EVERYTHING, Changes, named, relatives
from bastion.protocols.postgres.sql.parser import Node, Parser


class Session:
    """Somebody who changes something."""


def parsed(text: str) -> tuple[str, Node]:
    ((kind, body),) = Parser().parse(text.encode())[0]["stmt"].items()
    return kind, body


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CREATE TRIGGER t BEFORE INSERT ON s.a FOR EACH ROW EXECUTE FUNCTION f()", {"a"}),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM s.a JOIN b USING (id)", {"v", "a", "b"}),
        ("ALTER TABLE a ATTACH PARTITION b FOR VALUES IN (1)", {"a", "b"}),
        ("ALTER TABLE a ADD FOREIGN KEY (x) REFERENCES b", {"a", "b"}),
        ("CREATE POLICY p ON a USING (true)", {"a"}),
        ("DROP TRIGGER t ON s.a", {"s", "a", "t"}),
        ("DROP TABLE s.a, b", {"s", "a", "b"}),
        ("ALTER TABLE a RENAME TO b", {"a"}),
        ("ALTER DOMAIN d ADD CHECK (f(value))", {EVERYTHING}),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'", set()),
        ("GRANT SELECT ON a TO b", {"a"}),
    ],
)
def test_what_a_definition_names(text: str, names: set[str]) -> None:
    assert named(*parsed(text)) == names


@pytest.mark.parametrize(
    ("text", "adds"),
    [
        ("CREATE TABLE t (a int PRIMARY KEY, b text DEFAULT f(), CHECK (g(a)))", True),
        ("CREATE TABLE t (LIKE a)", True),
        ("CREATE TABLE t () INHERITS (a)", False),
        ("CREATE TABLE t PARTITION OF a FOR VALUES IN (1)", False),
        ("CREATE TABLE t (a int REFERENCES b ON DELETE CASCADE)", False),
        ("CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES b)", False),
        ("CREATE INDEX ON a (b DESC NULLS LAST, c)", True),
        ("CREATE INDEX ON a (lower(b))", False),
        ("CREATE INDEX ON a (b op.class)", False),
        ("CREATE INDEX ON a (b) WHERE c > 0", False),
        ("CREATE SCHEMA s", True),
        ("CREATE SCHEMA s CREATE TABLE t (a int)", False),
        ("ALTER TABLE a ADD b int", False),
    ],
)
def test_what_only_adds(text: str, adds: bool) -> None:
    assert definers.only_adds(*parsed(text)) is adds


def touching(*names: str) -> list[Resource]:
    return [Resource("relation", name, "select", Access.READ) for name in names]


def test_a_change_concerns_the_others_who_touch_what_it_names_until_it_ends() -> None:
    changes, one, two = Changes(), Session(), Session()
    changes.begins(one, {"people", "odd.name"})
    assert changes.concern(two, touching("public.plain", "public.people"))
    assert changes.concern(two, touching("public.odd.name"))
    assert not changes.concern(one, touching("public.people"))
    assert not changes.concern(two, touching("public.peoples", "people.other"))
    assert not changes.concern(two, [Resource("function", "public.people", "call", Access.READ)])
    changes.begins(two, {"people"})
    assert changes.concern(one, touching("public.people"))
    changes.ends(one)
    assert not changes.concern(two, touching("public.people"))


def test_a_sweeping_change_concerns_every_table() -> None:
    changes, one, two = Changes(), Session(), Session()
    changes.begins(one, {EVERYTHING})
    assert changes.concern(two, touching("public.plain"))
    assert not changes.concern(two, [Resource("statement", "", "select", Access.READ)])


def test_a_session_that_nobody_knows_any_more_changes_nothing() -> None:
    changes, one, two = Changes(), Session(), Session()
    changes.begins(one, {"people"})
    del one
    gc.collect()
    assert not changes.concern(two, touching("public.people"))


def test_parts_and_what_hands_changes_on_are_relatives(analyst: CatalogAnalyst) -> None:
    plain = analyst.catalog
    users, cards, orders = (plain.relations["public", name].oid for name in ("users", "cards", "orders"))
    catalog = replace(
        plain,
        children={users: (cards,)},
        parents={cards: (users,)},
        references={orders: (Reference(users, "c", "a"),)},
    )
    for name in ("users", "cards"):
        assert relatives(catalog, {name, "new"}) == {"users", "cards", "orders", "new"}
    # A change of what is referred to sets nothing off where it is referred from.
    assert relatives(catalog, {"orders"}) == {"orders"}
