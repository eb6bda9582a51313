"""The attacks on masked columns, and reporting queries that touch masked tables and have nothing to hide."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bastion.model.mask import USES
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import Reading
from tests.protocols.postgres.sql.watching import columns, read, uses, watching

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in yaml.load((Path(__file__).parents[3] / "corpus" / "attacks.yaml").read_text(), yaml.CSafeLoader)[
        "cases"
    ]
    if case["id"].startswith("MSK-P")
}
REFUSED = frozenset(f"MSK-P-{n:03}" for n in (10, 18, 30, 32, 33, 34, 35, 36, 41, 42, 43, 44, 45))
"""Nothing to be covered would do: the policy holds or denies these."""
FILTERED = frozenset({"MSK-P-031", "MSK-PC-001", "MSK-PC-002", "MSK-PC-003"})
"""Show nothing that is masked; but an error of theirs could."""
UNTOUCHED = frozenset({"MSK-PC-004"})


@pytest.fixture(scope="module")
def watcher(analyst: CatalogAnalyst) -> CatalogAnalyst:
    """Reads as the role of the corpora, and watches three columns."""
    return watching(analyst.catalog)


def texts(case: dict[str, Any]) -> list[str]:
    steps = [*case["steps"], *(step for variant in case.get("variants", ()) for step in variant)]
    return [step["q"] if "q" in step else step["batch"][0]["parse"][1] for step in steps]


def outcome(readings: list[Reading]) -> str:
    """Return what becomes of texts that are sent one after the other, up to the first that is refused."""
    found = {how for reading in readings for words in uses(reading).values() for how in words.split()}
    if found & {"predicate", "untraced", "written"}:
        return "refused"
    if any(output.shows for reading in readings for output in reading.outputs):
        return "covered"
    in_reach = any(USES in resource.facts for reading in readings for resource in reading.action.resources)
    return "filtered" if in_reach else "untouched"


def test_all_cases_are_here() -> None:
    assert len(CASES) == 50
    assert CASES.keys() >= REFUSED | FILTERED | UNTOUCHED


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_attack_on_a_masked_column_is_covered_or_refused(watcher: CatalogAnalyst, name: str) -> None:
    prepared: dict[str, Reading] = {}
    portals = {"c": read(watcher, "SELECT email FROM users ORDER BY id")}
    readings = [watcher.compose(read(watcher, text), prepared, portals) for text in texts(CASES[name])]
    expected = "refused" if name in REFUSED else "filtered" if name in FILTERED else "covered"
    assert outcome(readings) == ("untouched" if name in UNTOUCHED else expected)


REPORTS = """
SELECT count(*) FROM users
SELECT dept, count(*) FROM users GROUP BY dept ORDER BY count(*) DESC
SELECT dept, count(email) AS reachable, count(*) - count(email) AS unreachable FROM users GROUP BY dept
SELECT date_trunc('month', created) AS month, count(*) FROM users GROUP BY 1 ORDER BY 1
SELECT id, name FROM users WHERE created >= date '2024-01-01' AND dept IN ('ops', 'dev') ORDER BY name LIMIT 20
SELECT u.name, sum(o.amount) AS total FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.name HAVING sum(o.amount) > 10
SELECT u.id, u.name, o.* FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.status = 'new'
SELECT name FROM users WHERE id IN (SELECT user_id FROM orders WHERE amount > 100)
SELECT name FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.status <> 'paid')
SELECT name FROM users u WHERE NOT EXISTS (SELECT 1 FROM cards c WHERE c.user_id = u.id)
SELECT u.dept, avg(o.amount), min(o.amount), max(o.amount) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY ROLLUP (u.dept)
SELECT id, row_number() OVER (PARTITION BY dept ORDER BY created DESC) FROM users
SELECT id, name, lag(created) OVER (ORDER BY id) FROM users
SELECT * FROM (SELECT id, name, rank() OVER (PARTITION BY dept ORDER BY id) AS r FROM users) s WHERE r = 1
WITH busy AS (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) SELECT u.name, b.n FROM users u JOIN busy b ON b.user_id = u.id
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i, name FROM n JOIN users ON id = i
SELECT coalesce(u.name, 'nobody') AS name, o.id FROM orders o LEFT JOIN users u ON u.id = o.user_id ORDER BY o.id
SELECT string_agg(name, ', ' ORDER BY name) FROM users
SELECT json_agg(json_build_object('id', id, 'name', name)) FROM users
SELECT json_agg(row_to_json(t)) FROM (SELECT id, name FROM users) t
SELECT array_agg(DISTINCT dept) FROM users
SELECT dept, string_agg(name, ',') FILTER (WHERE created IS NOT NULL) FROM users GROUP BY dept
SELECT CASE WHEN created < now() THEN 'old' ELSE 'new' END AS age, count(*) FROM users GROUP BY 1
SELECT extract(year FROM created) AS year, count(*) FROM users GROUP BY extract(year FROM created)
SELECT to_char(created, 'YYYY-MM'), dept FROM users
SELECT upper(left(name, 1)) || lower(substr(name, 2)) AS shown FROM users
SELECT name || ' (' || dept || ')' FROM users
SELECT id FROM users UNION SELECT user_id FROM orders ORDER BY 1
SELECT id FROM users EXCEPT SELECT user_id FROM cards
SELECT id, name FROM users INTERSECT SELECT id, name FROM users
SELECT DISTINCT dept FROM users
SELECT DISTINCT ON (dept) dept, name FROM users ORDER BY dept, created DESC
SELECT u.name, l.amount FROM users u, LATERAL (SELECT amount FROM orders o WHERE o.user_id = u.id ORDER BY amount DESC LIMIT 1) l
SELECT d::date, count(u.id) FROM generate_series(date '2024-01-01', date '2024-01-31', interval '1 day') d LEFT JOIN users u ON u.created = d GROUP BY d
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM orders JOIN users ON users.id = user_id
SELECT u.dept, o.status, count(*) FROM users u, orders o WHERE o.user_id = u.id GROUP BY GROUPING SETS ((u.dept), (o.status), ())
SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id) AS orders, u.name FROM users u
SELECT name, (SELECT max(amount) FROM orders WHERE user_id = users.id) FROM users WHERE id = $1
SELECT id, name, dept FROM users WHERE name ILIKE '%a%' OR dept = 'ops'
SELECT id, name FROM users WHERE id = ANY ($1::int[])
SELECT id FROM users WHERE email IS NULL
SELECT sum(CASE WHEN email IS NULL THEN 1 ELSE 0 END) AS missing FROM users
SELECT count(*) FILTER (WHERE email IS NOT NULL AND ssn IS NOT NULL) FROM users
SELECT id, name FROM v_contacts ORDER BY name
SELECT dept, n FROM scratch.v_dept ORDER BY n DESC
SELECT c.exp, count(*) FROM cards c GROUP BY c.exp
SELECT u.name, c.exp FROM users u JOIN cards c ON c.user_id = u.id WHERE c.exp < '01/30'
SELECT u.id, u.name, u.dept FROM users u NATURAL JOIN (SELECT id FROM users WHERE dept = 'ops') s
SELECT id, created FROM users WHERE created BETWEEN '2024-01-01' AND '2024-12-31' ORDER BY created, id OFFSET 10 LIMIT 10
SELECT count(DISTINCT user_id) FROM orders JOIN users USING (id)
SELECT x.name FROM (SELECT * FROM users) x WHERE x.dept = 'dev'
SELECT a.name, b.name FROM users a JOIN users b ON a.dept = b.dept AND a.id < b.id
SELECT width_bucket(amount, 0, 100, 10) AS bucket, count(*) FROM orders JOIN users u ON u.id = user_id GROUP BY 1
SELECT md5(name), length(name), greatest(id, 5), nullif(dept, 'ops') FROM users
SELECT ctid, tableoid::regclass, id FROM users
SELECT current_user, now(), version(), count(*) FROM users
SELECT v.label, count(u.id) FROM (VALUES ('ops', 'Operations'), ('dev', 'Development')) v(dept, label) LEFT JOIN users u ON u.dept = v.dept GROUP BY v.label
SELECT id, name FROM users WHERE (id, name) IN ((1, 'Ada'), (2, 'Bob'))
SELECT id FROM users WHERE regexp_match(name, '^A') IS NOT NULL
SELECT name FROM users FOR UPDATE SKIP LOCKED
SELECT pg_size_pretty(pg_total_relation_size('users')), count(*) FROM users
EXPLAIN SELECT * FROM users WHERE dept = 'ops'
EXPLAIN (ANALYZE, BUFFERS) SELECT count(*) FROM users JOIN orders ON orders.user_id = users.id
UPDATE users SET dept = 'ops', name = upper(name) WHERE id = 3 RETURNING id, name
DELETE FROM users WHERE id = 3 AND dept = 'ops'
INSERT INTO users (id, name, email) VALUES (77, 'Eve', 'eve@corp.example') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING id
INSERT INTO orders (id, user_id, amount) SELECT 1000 + id, id, 5 FROM users WHERE dept = 'ops'
MERGE INTO orders o USING users u ON u.id = o.user_id WHEN MATCHED AND u.dept = 'ops' THEN UPDATE SET note = u.name
COPY users (id, name, dept) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT dept, count(*) FROM users GROUP BY dept) TO STDOUT
CREATE TABLE report AS SELECT dept, count(*) AS n FROM users GROUP BY dept
TRUNCATE orders, users
""".strip().splitlines()  # noqa: E501


def test_there_are_enough_reports() -> None:
    assert len(REPORTS) >= 60


@pytest.mark.parametrize("text", REPORTS)
def test_a_report_without_masked_values_is_neither_covered_nor_refused(watcher: CatalogAnalyst, text: str) -> None:
    reading = read(watcher, text)
    assert uses(reading) == {}
    assert [columns(output) for output in reading.outputs] == []
