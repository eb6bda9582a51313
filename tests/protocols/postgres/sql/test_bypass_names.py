"""What runs by name is shown with what the name stands for, and with its secrets struck out."""

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import Declares, Prepares, Reading


def _said(analyst: CatalogAnalyst, text: str) -> Reading:
    return analyst.read(text.encode(), frozenset({analyst.catalog.path}))


def _prepared(analyst: CatalogAnalyst, text: str) -> dict[str, Reading]:
    return {e.name: e.reading for e in _said(analyst, text).effects if isinstance(e, Prepares | Declares)}


def test_who_judges_an_execute_sees_the_statement(analyst: CatalogAnalyst) -> None:
    prepared = _prepared(analyst, "PREPARE p(int) AS UPDATE orders SET amount = 1e6 WHERE id = $1")
    action = analyst.compose(_said(analyst, "EXECUTE p(5)"), prepared, {}).action
    assert action.text.startswith("EXECUTE p(5)\n")
    assert "UPDATE orders SET amount = 1e6 WHERE id = $1" in action.text


def test_who_judges_a_fetch_sees_the_query(analyst: CatalogAnalyst) -> None:
    portals = _prepared(analyst, "DECLARE c CURSOR FOR SELECT email FROM users")
    action = analyst.compose(_said(analyst, "FETCH ALL FROM c"), {}, portals).action
    assert "SELECT email FROM users" in action.text


def test_two_statements_of_one_name_are_two_actions(analyst: CatalogAnalyst) -> None:
    one = _prepared(analyst, "PREPARE p AS UPDATE orders SET amount = 1 WHERE id = 1")
    other = _prepared(analyst, "PREPARE p AS UPDATE orders SET amount = 2 WHERE id = 1")
    asked = _said(analyst, "EXECUTE p")
    digests = {analyst.compose(asked, known, {}).action.digest() for known in (one, other)}
    assert len(digests) == 2


def test_both_meanings_of_a_name_in_one_text_are_shown(analyst: CatalogAnalyst) -> None:
    prepared = _prepared(analyst, "PREPARE p AS UPDATE orders SET amount = 1")
    text = "EXECUTE p; DEALLOCATE p; PREPARE p AS SELECT 2; EXECUTE p"
    action = analyst.compose(_said(analyst, text), prepared, {}).action
    assert action.text.count("-- what runs by the name") == 2


def test_argument_of_a_statement_with_a_secret_is_struck_out(analyst: CatalogAnalyst) -> None:
    prepared = _prepared(analyst, "PREPARE p(text) AS UPDATE users SET name = $1 WHERE email = 'password reset'")
    action = analyst.compose(_said(analyst, "EXECUTE p('hunter2')"), prepared, {}).action
    assert action.secret
    assert "hunter2" not in action.safe_text
    assert "UPDATE users" in action.safe_text


def test_name_cannot_pretend_to_be_a_line_of_its_own(analyst: CatalogAnalyst) -> None:
    prepared = _prepared(analyst, 'PREPARE "p\nDELETE" AS SELECT 1')
    action = analyst.compose(_said(analyst, 'EXECUTE "p\nDELETE"'), prepared, {}).action
    assert '-- what runs by the name "p\\nDELETE":' in action.text
