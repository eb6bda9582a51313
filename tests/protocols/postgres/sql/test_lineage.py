"""What is shown of watched columns, and what else depends on them."""

import pytest

from bastion.model.mask import BECAUSE, USES
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import CopyForm, Fetches, Reading
from tests.protocols.postgres.sql.watching import columns, read, uses, watching


@pytest.fixture(scope="module")
def watcher(analyst: CatalogAnalyst) -> CatalogAnalyst:
    """Reads as the role of the corpora, and watches three columns."""
    return watching(analyst.catalog)


USERS = ["", "", "email", "ssn", "", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # a column as it is
        ("SELECT email FROM users", ["email"]),
        ("SELECT * FROM users", USERS),
        ("TABLE users", USERS),
        ("SELECT u.*, pan FROM users u JOIN cards c ON c.user_id = u.id", [*USERS, "pan"]),
        ("SELECT * FROM users NATURAL JOIN cards", [*USERS, "", "pan", ""]),
        ("SELECT * FROM cards RIGHT JOIN users USING (id)", ["", "", "pan", "", "", "email", "ssn", "", ""]),
        ("SELECT j.a FROM (users CROSS JOIN scratch.users s) AS j(x, y, a)", ["email"]),
        ("SELECT t.id, t FROM users u JOIN cards c USING (id) AS t", ["", ""]),
        ("SELECT email AS note, ssn AS status FROM users", ["email", "ssn"]),
        ("SELECT public.users.email FROM public.users", ["email"]),
        ("SELECT c FROM users AS x(a, b, c)", ["email"]),
        ("SELECT x FROM (SELECT id, email AS x FROM users) s", ["email"]),
        ("SELECT s.e FROM (SELECT email FROM users) s(e)", ["email"]),
        ("WITH t(a, b) AS (SELECT id, pan FROM cards) SELECT b FROM t", ["pan"]),
        ("WITH a AS (SELECT email FROM users), b AS (SELECT * FROM a) SELECT * FROM b", ["email"]),
        ("WITH users AS (SELECT 1 AS email) SELECT email FROM users", ["..."]),
        ("SELECT contact FROM v_contacts", ["email"]),
        ("SELECT v.* FROM v_contacts v", ["", "", "email"]),
        ("SELECT DISTINCT email FROM users", ["email"]),
        ("SELECT email FROM users UNION SELECT email FROM users", ["email"]),
        ("SELECT l.x FROM users u, LATERAL (SELECT u.email AS x) l", ["email"]),
        ("SELECT (u).email, (u).id FROM users u", ["email", ""]),
        ("SELECT (s.u).ssn FROM (SELECT u FROM users u) s", ["ssn"]),
        ("SELECT (u).* FROM users u", USERS),
        ("SELECT email, ctid, tableoid FROM users", ["email", "", ""]),
        ("UPDATE users SET dept = 'ops' WHERE id = 1 RETURNING email, id", ["email", ""]),
        ("DELETE FROM users WHERE id = 1 RETURNING *", USERS),
        ("INSERT INTO users(id, name) VALUES (99, 'x') RETURNING email", ["email"]),
        ("WITH x AS (DELETE FROM users WHERE id = 1 RETURNING *) SELECT ssn, id FROM x", ["ssn", ""]),
        ("SELECT email FROM users u, unnest(ARRAY[1, 2]) AS n", ["email"]),
        ("SELECT n.*, email FROM users u, unnest('{1,2}'::int[]) AS n", ["", "email"]),
        ("SELECT g, email FROM generate_series(1, 3) g, users", ["", "email"]),
        ("SELECT email FROM users TABLESAMPLE system (50)", ["email"]),
        (
            "WITH RECURSIVE t(a, b) AS (SELECT id, email FROM users WHERE id = 1 UNION ALL"
            " SELECT u.id, t.b FROM users u JOIN t ON u.id = t.a + 1) SELECT b FROM t",
            ["email"],
        ),
        # what is computed
        ("SELECT email || '' FROM users", ["[email]"]),
        ("SELECT email::varchar(200), ssn::name, pan::json FROM users, cards", ["[email]", "[ssn]", "[pan]"]),
        ("SELECT left(ssn, 6), right(ssn, 5), reverse(ssn), md5(ssn) FROM users", ["[ssn]"] * 4),
        ("SELECT substr(email, g, 1) FROM users, generate_series(1, 27) g", ["[email]"]),
        ("SELECT substring(email FROM 2 FOR 3), trim(email) FROM users", ["[email]", "[email]"]),
        ("SELECT encode(convert_to(email, 'UTF8'), 'hex') FROM users", ["[email]"]),
        ("SELECT format('<%s>', email), concat_ws('|', ssn, id) FROM users", ["[email]", "[ssn]"]),
        ("SELECT upper(email), lower(email), length(email) FROM users", ["[email]"] * 3),
        ("SELECT u, u::text FROM users u", ["[email ssn]"] * 2),
        ("SELECT row_to_json(u), to_jsonb(u), ROW(id, email) FROM users u", ["[email ssn]", "[email ssn]", "[email]"]),
        ("SELECT jsonb_build_object('a', email) ->> 'a' FROM users", ["[email]"]),
        ("SELECT (array_agg(email ORDER BY id))[1], ARRAY[ssn] FROM users GROUP BY id", ["[email]", "[ssn]"]),
        ("SELECT string_agg(ssn, ';' ORDER BY id), min(email), max(email) FROM users", ["[ssn]", "[email]", "[email]"]),
        ("SELECT json_agg(u) FILTER (WHERE id > 3) FROM users u", ["[email ssn]"]),
        ("SELECT lag(email) OVER (PARTITION BY dept ORDER BY id) FROM users", ["[email]"]),
        ("SELECT xmlforest(email AS e, ssn AS s), xmlelement(name x, email) FROM users", ["[email ssn]", "[email]"]),
        ("SELECT coalesce(email, name), CASE WHEN id = 1 THEN ssn ELSE name END FROM users", ["[email]", "[ssn]"]),
        ("SELECT (SELECT email FROM users LIMIT 1), ARRAY(SELECT ssn FROM users)", ["[email]", "[ssn]"]),
        ("SELECT name FROM users UNION ALL SELECT email FROM users", ["[email]"]),
        ("SELECT email FROM users UNION ALL SELECT ssn FROM users", ["[email ssn]"]),
        ("SELECT l.v FROM users u, LATERAL (VALUES (u.email), (u.ssn)) l(v)", ["[email ssn]"]),
        ("SELECT email COLLATE \"C\" FROM users", ["[email]"]),
        ("SELECT first_mail, dept FROM scratch.v_dept", ["[email]", ""]),
        ("SELECT j.key, j.value FROM users u, json_each_text(row_to_json(u)) j", ["[email ssn]"] * 2),
        ("SELECT x.a FROM users u, json_to_record(to_json(u)) AS x(a text)", ["[email ssn]"]),
        ("SELECT unnest(string_to_array('a,b', ',')), unnest(ARRAY[email]) FROM users", ["", "[email]"]),
        ("SELECT t FROM users, unnest(ARRAY[email]) t", ["[email]"]),
        ("SELECT id, a.* FROM (SELECT email, ssn FROM users) a, users", ["", "email", "ssn"]),
        (
            "WITH RECURSIVE t(a, b) AS (SELECT 1, 'x' UNION ALL SELECT t.a + 1, u.email FROM users u, t WHERE t.a < 3)"
            " SELECT b FROM t",
            ["[email]"],
        ),
        ("SELECT x FROM (SELECT id, email FROM users) x", ["[email]"]),
        ("WITH t AS (SELECT email FROM users) SELECT t, t.*, (t).email FROM t", ["[email]", "email", "email"]),
        ("SELECT r.* FROM users u, ROWS FROM (json_to_record(to_json(u)) AS (a text, b text)) r", ["[email ssn]"] * 2),
        ("SELECT v FROM users, XMLTABLE('/x' PASSING xmlelement(name x, ssn) COLUMNS v text PATH '.')", ["[ssn]"]),
        ("VALUES ((SELECT email FROM users LIMIT 1), 1)", ["[email]", ""]),
        ("SELECT json_object_agg(id, email), concat(VARIADIC array_agg(ssn)) FROM users", ["[email]", "[ssn]"]),
        ("SELECT (SELECT u).email, ((SELECT u)).* FROM (SELECT id, email FROM users) u", ["email", "", "email"]),
        ("SELECT j.id, email FROM users JOIN cards USING (id) AS j", ["", "email"]),
        # functions of which nobody knows what they show
        ("SELECT mail_of(1), 2", ["[public.mail_of()]", ""]),
        ("SELECT (user_card(1)).no", ["[public.user_card()]"]),
        ("SELECT * FROM user_card(1)", ["...[public.user_card()]"]),
        ("SELECT who FROM user_card(1)", ["[public.user_card()]"]),
        ("SELECT name, x FROM users, mail_of(users.id) x", ["", "[public.mail_of()]"]),
        ("SELECT name, * FROM mail_of(1), users", ["", "...[email public.mail_of() ssn]"]),
        ("SELECT s.x || 'a' FROM (SELECT mail_of(1) AS x) s", ["[public.mail_of()]"]),
        ("SELECT query_to_xml('SELECT 1', true, true, '')", ["[pg_catalog.query_to_xml()]"]),
        ("CALL p_close_month()", ["...[public.p_close_month()]"]),
        ("SELECT n FROM scratch.v_report", ["[public.purge_orders()]"]),
    ],
)  # fmt: skip
def test_what_each_column_of_a_result_comes_from(watcher: CatalogAnalyst, text: str, expected: list[str]) -> None:
    outputs = read(watcher, text).outputs
    if expected == ["..."] or not any(name.strip(".") for name in expected):
        assert outputs == ()
    else:
        (found,) = outputs
        assert columns(found) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # shown
        ("SELECT email FROM users", {"email": "output"}),
        ("SELECT id FROM (SELECT id, email FROM users) s", {}),
        ("WITH t AS (SELECT email FROM users) SELECT id FROM users", {}),
        # equality with what the user gives
        ("SELECT id FROM users WHERE email = 'x'", {"email": "equality"}),
        ("SELECT id FROM users WHERE 'x'::text = email AND ssn = $1", {"email": "equality", "ssn": "equality"}),
        ("SELECT id FROM v_contacts WHERE contact = 'x'", {"email": "equality"}),
        ("SELECT count(*) FILTER (WHERE email = 'x') FROM users", {"email": "equality"}),
        ("SELECT u.id FROM users u JOIN cards c ON c.user_id = u.id AND c.pan = '1'", {"pan": "equality"}),
        ("SELECT EXISTS (SELECT FROM users WHERE email = 'x')", {"email": "equality"}),
        ("DELETE FROM users WHERE email = 'x'", {"email": "equality"}),
        ("SELECT id FROM users WHERE id IN (SELECT user_id FROM cards WHERE pan = '1')", {"pan": "equality"}),
        # nullness stays visible
        ("SELECT id FROM users WHERE email IS NOT NULL", {}),
        ("SELECT email IS NULL, count(email), count(u) FROM users u GROUP BY id", {}),
        ("SELECT count(DISTINCT email) FROM users", {}),
        # conditions
        ("SELECT id FROM users WHERE email LIKE 'a%'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email > 'a'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email = 'a' OR id = 1", {"email": "predicate"}),
        ("SELECT id FROM users WHERE NOT email = 'a'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email IN ('a', 'b')", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email = ANY ($1)", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email BETWEEN 'a' AND 'b'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email IS DISTINCT FROM 'a'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE lower(email) = 'a'", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email = (SELECT 'a')", {"email": "predicate"}),
        ("SELECT id FROM users WHERE (email, id) = ('a', 1)", {"email": "predicate"}),
        ("SELECT id FROM users WHERE email = name", {"email": "predicate"}),
        ("SELECT id FROM users WHERE nullif(email, 'a') IS NULL", {"email": "predicate"}),
        ("SELECT u.id FROM users u JOIN cards c ON c.pan = u.ssn", {"pan": "predicate", "ssn": "predicate"}),
        ("SELECT 1 FROM users a JOIN (SELECT ssn FROM users) b USING (ssn)", {"ssn": "predicate"}),
        ("SELECT 1 FROM (SELECT ssn FROM users) a NATURAL JOIN (SELECT ssn FROM users) b", {"ssn": "predicate"}),
        ("SELECT count(*) FROM (VALUES ('1'), ('2')) g(v) JOIN users ON ssn = v", {"ssn": "predicate"}),
        ("SELECT count(*) FROM (SELECT 'x' AS v) g JOIN users ON ssn = v", {"ssn": "predicate"}),
        ("SELECT dept FROM users GROUP BY dept HAVING max(email) > 'a'", {"email": "predicate"}),
        ("SELECT count(*) FILTER (WHERE email LIKE 'a%') FROM users", {"email": "predicate"}),
        ("SELECT CASE WHEN email = 'a' THEN 1 ELSE 2 END FROM users", {"email": "predicate"}),
        ("SELECT CASE email WHEN 'a' THEN 1 END FROM users", {"email": "predicate"}),
        ("SELECT email = 'a' FROM users", {"email": "output predicate"}),
        ("SELECT NOT (email = 'a') FROM users", {"email": "output predicate"}),
        ("SELECT nullif(email, '') FROM users", {"email": "output predicate"}),
        ("SELECT greatest(email, 'a') FROM users", {"email": "output predicate"}),
        ("SELECT id FROM users WHERE email IN (SELECT pan FROM cards)", {"email": "predicate", "pan": "predicate"}),
        ("SELECT id FROM users WHERE dept > ALL (SELECT email FROM users)", {"email": "predicate"}),
        ("SELECT 1/(CASE WHEN ssn LIKE '912%' THEN 0 ELSE 1 END) FROM users", {"ssn": "predicate"}),
        ("SELECT 1 FROM users, generate_series(1, length(ssn))", {"ssn": "predicate"}),
        ("SELECT id FROM users LIMIT (SELECT length(email) FROM users LIMIT 1)", {"email": "predicate"}),
        # order and groups
        ("SELECT id FROM users ORDER BY ssn", {"ssn": "predicate"}),
        ("SELECT email AS x FROM users ORDER BY x", {"email": "output predicate"}),
        ("SELECT email FROM users ORDER BY 1", {"email": "output predicate"}),
        ("SELECT id AS email FROM users ORDER BY email", {}),
        ("SELECT email AS dept, count(*) FROM users GROUP BY dept, email", {"email": "output predicate"}),
        ("SELECT email AS dept FROM users GROUP BY id, dept", {"email": "output"}),
        ("SELECT dept FROM users GROUP BY ROLLUP (dept, email)", {"email": "predicate"}),
        ("SELECT DISTINCT lower(email) FROM users", {"email": "output predicate"}),
        ("SELECT DISTINCT ON (email) id FROM users", {"email": "predicate"}),
        ("SELECT count(DISTINCT lower(email)) FROM users", {"email": "predicate"}),
        ("SELECT row_number() OVER (ORDER BY email) FROM users", {"email": "predicate"}),
        ("SELECT rank() OVER w FROM users WINDOW w AS (PARTITION BY email ORDER BY id)", {"email": "predicate"}),
        ("SELECT array_agg(id ORDER BY email) FROM users", {"email": "predicate"}),
        ("SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM users", {"ssn": "output predicate"}),
        ("SELECT ssn FROM users UNION SELECT pan FROM cards", {"ssn": "output predicate", "pan": "output predicate"}),
        ("SELECT email FROM users EXCEPT SELECT name FROM users", {"email": "output predicate"}),
        ("SELECT email FROM users INTERSECT ALL SELECT 'x'", {"email": "output predicate"}),
        # what may fail or differ by the value
        ("SELECT email::int FROM users", {"email": "output predicate"}),
        ("SELECT email::text[] FROM users", {"email": "output predicate"}),
        ("SELECT substring(email FROM 'a.*') FROM users", {"email": "output predicate"}),
        ("SELECT position('a' IN email), email ~ 'a' FROM users", {"email": "output predicate"}),
        ("SELECT regexp_split_to_table(email, '@') FROM users", {"email": "output predicate"}),
        ("SELECT to_jsonb(u) - 'name' FROM users u", {"email": "output predicate", "ssn": "output predicate"}),
        ("SELECT (ARRAY[1, 2])[length(email)] FROM users", {"email": "predicate"}),
        ("SELECT '{}'::json -> email FROM users", {"email": "output predicate"}),
        ("SELECT (email).upper FROM users", {"email": "output"}),
        ("SELECT email FROM users GROUP BY email HAVING email = 'a'", {"email": "output predicate equality"}),
        ("SELECT id FROM users u ORDER BY u", {"email": "predicate", "ssn": "predicate"}),
        ("SELECT count(*) FROM users GROUP BY (dept, email)", {"email": "predicate"}),
        ("SELECT 1 FROM users ORDER BY 'x' || email DESC", {"email": "predicate"}),
        ("SELECT sum(id) OVER (ORDER BY id ROWS length(email) PRECEDING) FROM users", {"email": "predicate"}),
        ("SELECT date_part(email, now()) FROM users", {"email": "output predicate"}),
        ("SELECT format(ssn, 1), encode('a'::bytea, ssn) FROM users", {"ssn": "output predicate"}),
        ("SELECT email SIMILAR TO 'a' FROM users", {"email": "output predicate"}),
        ("SELECT email FROM users WHERE current_user = email", {"email": "output predicate"}),
        # given to what nobody knows
        ("SELECT email(u) FROM users u", {"email": "output untraced", "ssn": "output untraced", "*": "untraced"}),
        ("SELECT u::users FROM users u", {"email": "output untraced", "ssn": "output untraced"}),
        ("SELECT scratch.spy(email) FROM users", {"email": "output untraced", "scratch.spy": "output"}),
        ("SELECT id FROM users WHERE scratch.spy(email)", {"email": "untraced predicate"}),
        ("SELECT pg_notify('c', email) FROM users", {"email": "output untraced", "pg_catalog.pg_notify": "output"}),
        ("SELECT set_config('a.b', email, false) FROM users", {"email": "output untraced"}),
        ("SELECT email::scratch.tidy FROM users", {"email": "output untraced"}),
        ("SELECT length(ssn) OPERATOR(scratch.+) 1 FROM users", {"ssn": "output untraced predicate"}),
        ("SELECT scratch.total(length(email)) FROM users", {"email": "output untraced"}),
        ("SELECT id FROM orders WHERE mail_of(id) = 'x'", {}),
        ("SELECT nextval('seq1'), count(*) FROM users", {}),
        ("DO $$ BEGIN NULL; END $$", {"*": "untraced"}),
        ("SELECT histogram_bounds FROM pg_stats", {"*": "untraced"}),
        # writing
        ("INSERT INTO staging SELECT id, email FROM users", {"email": "written"}),
        ("INSERT INTO staging SELECT 1, mail_of(1)", {"public.mail_of": "written"}),
        ("UPDATE users SET name = ssn WHERE id = 1", {"ssn": "written"}),
        ("UPDATE users SET email = lower(email) WHERE id = 1", {"email": "predicate"}),
        ("UPDATE users SET (name, email) = (SELECT x.email, x.email FROM users x)", {"email": "written"}),
        ("UPDATE users SET (name, dept) = ROW(email, 'x') WHERE id = 1", {"email": "written"}),
        ("INSERT INTO users SELECT * FROM users ON CONFLICT (id) DO UPDATE SET email = excluded.email", {}),
        ("INSERT INTO users TABLE users ON CONFLICT (id) DO UPDATE SET dept = excluded.ssn", {"ssn": "written"}),
        ("INSERT INTO users(id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = users.ssn", {"ssn": "written"}),
        ("UPDATE users SET email = email, ssn = DEFAULT WHERE id = 1", {}),
        ("UPDATE users u SET email = x.email FROM users x WHERE x.id = u.id + 1", {}),
        ("UPDATE users SET ssn = left(ssn, 5) WHERE id = 1 RETURNING ssn", {"ssn": "output predicate"}),
        ("INSERT INTO users(id, email) VALUES (1, 'x') ON CONFLICT (email) DO NOTHING", {"email": "equality"}),
        ("INSERT INTO users(id, email) VALUES (1, 'x') ON CONFLICT DO NOTHING", {"email": "equality"}),
        ("INSERT INTO users(id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING", {}),
        ("INSERT INTO users(id, email) VALUES (1, 'x') ON CONFLICT (id) DO NOTHING", {}),
        ("INSERT INTO users(email) VALUES ('x') ON CONFLICT (lower(email)) DO NOTHING", {"email": "equality"}),
        ("INSERT INTO users(email) VALUES ('x'), ('y') ON CONFLICT (email) DO NOTHING", {"email": "predicate"}),
        ("UPDATE v_contacts SET name = contact", {"email": "written"}),
        ("UPDATE v_contacts SET contact = contact", {}),
        ("CREATE TABLE z AS SELECT email FROM users", {"email": "written"}),
        ("CREATE TEMP TABLE z AS SELECT mail_of(1)", {"public.mail_of": "written"}),
        ("SELECT email INTO z FROM users", {"email": "written"}),
        ("SELECT name INTO z FROM users UNION ALL SELECT email FROM users", {"email": "written"}),
        ("CREATE MATERIALIZED VIEW z AS SELECT email FROM users", {"email": "written"}),
        ("CREATE VIEW z AS SELECT email FROM users", {"email": "written"}),
        ("COPY users TO '/tmp/x'", {"email": "written", "ssn": "written"}),
        ("COPY (SELECT pan FROM cards) TO PROGRAM 'cat'", {"pan": "written"}),
        ("COPY users FROM STDIN", {}),
        ("ALTER TABLE users ALTER COLUMN name TYPE text USING email", {"email": "written"}),
        ("ALTER TABLE users ALTER COLUMN email TYPE text USING left(email, 5)", {"email": "predicate"}),
        ("ALTER TABLE users ALTER COLUMN email TYPE varchar", {}),
        # explained
        ("EXPLAIN SELECT email FROM users", {}),
        ("EXPLAIN ANALYZE SELECT id FROM users WHERE ssn > '5'", {"ssn": "predicate"}),
        ("EXPLAIN VERBOSE SELECT mail_imm(1)", {"public.mail_imm": "untraced"}),
        # not followed
        ("SELECT email, nobody FROM users", {"email": "untraced"}),
        ("SELECT email FROM users, cards WHERE id = 1", {"email": "untraced"}),
        ("COPY users TO STDOUT (FORMAT csv, HEADER match)", {"email": "untraced", "ssn": "untraced"}),
        # nothing of it
        ("TRUNCATE users", {}),
        ("LOCK TABLE users", {}),
        ("VACUUM users", {}),
        ("SELECT 1 FROM users FOR UPDATE", {}),
        ("SHOW search_path", {}),
    ],
)  # fmt: skip
def test_how_what_is_watched_is_used(watcher: CatalogAnalyst, text: str, expected: dict[str, str]) -> None:
    found = {name: set(how.split()) for name, how in uses(read(watcher, text)).items()}
    wanted = {name: set(how.split()) for name, how in expected.items()}
    assert {name: how for name, how in found.items() if name in wanted or "." not in name} == wanted


@pytest.mark.parametrize(("guesses", "held"), [(8, False), (9, True)])
def test_many_guesses_in_one_statement_are_a_search(watcher: CatalogAnalyst, guesses: int, held: bool) -> None:
    parts = (f"SELECT count(*) FROM users WHERE ssn = '{n}'" for n in range(guesses))
    (found,) = {
        tuple(r.facts[USES]["public.users.ssn"]) for r in read(watcher, " UNION ALL ".join(parts)).action.resources
    }
    assert found == (("equality", "predicate") if held else ("equality",))


def test_every_touch_of_a_watched_table_says_how_all_its_watched_columns_are_used(watcher: CatalogAnalyst) -> None:
    reading = read(watcher, "UPDATE users SET dept = 'x' WHERE email = 'a' RETURNING ssn")
    facts = {r.verb: r.facts[USES] for r in reading.action.resources}
    both = {"public.users.email": ["equality"], "public.users.ssn": ["output"]}
    assert facts == {"select": both, "update": both}
    unused = read(watcher, "SELECT name FROM users").action.resources[0]
    assert unused.facts[USES] == {"public.users.email": [], "public.users.ssn": []}
    assert BECAUSE not in unused.facts


def test_what_is_more_than_showing_is_explained(watcher: CatalogAnalyst) -> None:
    (resource,) = read(watcher, "SELECT email FROM users WHERE ssn = '1' ORDER BY email").action.resources
    assert resource.facts[BECAUSE] == {"public.users.email": "it is sorted by (ORDER BY)"}
    (resource,) = read(watcher, "SELECT 'secret' FROM users WHERE email LIKE '%secret%'").action.resources
    assert "secret" not in str(resource.facts)


def test_nothing_is_traced_where_nothing_is_watched(analyst: CatalogAnalyst, watcher: CatalogAnalyst) -> None:
    for text in ("SELECT email FROM users", "SELECT mail_of(1)"):
        plain = read(analyst, text)
        assert plain.outputs == ()
        assert all(USES not in r.facts for r in plain.action.resources)
    assert read(watcher, "SELECT * FROM orders") == read(analyst, "SELECT * FROM orders")


def test_every_statement_that_returns_something_has_its_outputs(watcher: CatalogAnalyst) -> None:
    text = "BEGIN; SELECT 1; SELECT email FROM users; DELETE FROM orders WHERE id = 1; SHOW timezone; COMMIT"
    reading = read(watcher, text)
    assert [(o.statement, columns(o)) for o in reading.outputs] == [(1, ["..."]), (2, ["email"]), (4, ["..."])]
    assert read(watcher, "BEGIN; SELECT 1; COMMIT").outputs == ()


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ("", CopyForm()),
        ("CSV HEADER QUOTE '\"' DELIMITER ';'", CopyForm("csv", ";", quote='"', header=True)),
        ("(FORMAT binary)", CopyForm("binary")),
        ("BINARY", CopyForm("binary")),
        (
            "(FORMAT csv, HEADER false, FORCE_QUOTE (email), NULL 'x', ESCAPE '!', ENCODING 'latin1')",
            CopyForm("csv", null="x", escape="!", force_quote=("email",), encoding="latin1"),
        ),
        ("(FORMAT csv, FORCE_QUOTE *)", CopyForm("csv", force_quote=("*",))),
    ],
)
def test_how_copied_rows_are_written(watcher: CatalogAnalyst, options: str, form: CopyForm) -> None:
    for what, expected in (
        ("users (id, email)", ["", "email"]),
        ("(SELECT ssn FROM users)", ["ssn"]),
        ("users", USERS),
    ):
        if what.startswith("(") and options == "BINARY":
            continue
        (found,) = read(watcher, f"COPY {what} TO STDOUT {options}").outputs
        assert (columns(found), found.copied) == (expected, form)


def test_what_runs_by_name_returns_what_it_stands_for(watcher: CatalogAnalyst) -> None:
    prepared = {"p": read(watcher, "SELECT id, email FROM users"), "q": read(watcher, "SELECT 1")}

    def run(text: str, portals: dict[str, Reading] | None = None) -> Reading:
        return watcher.compose(read(watcher, text), prepared, portals or {})

    found = run("BEGIN; EXECUTE p; EXECUTE q")
    assert [(o.statement, columns(o)) for o in found.outputs] == [(1, ["", "email"]), (2, ["..."])]
    assert uses(found) == {"email": "output"}
    assert run("EXECUTE q").outputs == ()
    assert [columns(o) for o in run("PREPARE r AS SELECT ssn FROM users; EXECUTE r").outputs] == [["ssn"]]
    cursor = "DECLARE c CURSOR FOR SELECT email FROM users; FETCH 2 FROM c; MOVE c"
    assert [(o.statement, columns(o)) for o in run(cursor).outputs] == [(1, ["email"])]
    portals = {"c": read(watcher, "SELECT pan FROM cards")}
    assert [columns(o) for o in run("FETCH ALL c", portals).outputs] == [["pan"]]
    assert read(watcher, "FETCH ALL c").effects == (Fetches("c"),)


@pytest.mark.parametrize("text", ["CREATE TABLE z AS EXECUTE p", "EXPLAIN EXECUTE p", "EXPLAIN ANALYZE EXECUTE p"])
def test_what_runs_by_name_and_is_not_shown_is_not_traced(watcher: CatalogAnalyst, text: str) -> None:
    found = watcher.compose(read(watcher, text), {"p": read(watcher, "SELECT email FROM users")}, {})
    assert "untraced" in uses(found)["email"]
    assert found.outputs == ()
    harmless = watcher.compose(read(watcher, text), {"p": read(watcher, "SELECT name FROM users")}, {})
    assert uses(harmless) == {}


def test_texts_of_one_shape_are_used_alike(analyst: CatalogAnalyst) -> None:
    """What is remembered of a shape never says less than reading the text alone."""
    pairs = [
        ("SELECT email FROM users WHERE id = 1", "SELECT email FROM users WHERE id = 2"),
        ("SELECT substring(email, 2) FROM users", "SELECT substring(email, 'a.*') FROM users"),
        ("SELECT substring(email, 'a') FROM users", "SELECT substring(email, 7) FROM users"),
        ("SELECT id FROM users WHERE ssn = '1'", "SELECT id FROM users WHERE ssn = '2'"),
        ("SELECT json_build_object('a', email) FROM users", "SELECT json_build_object('b', email) FROM users"),
        ("SELECT 'a' AS x, ssn FROM users LIMIT 3", "SELECT 'b' AS x, ssn FROM users LIMIT 4"),
    ]
    for first, second in pairs:
        one, other = watching(analyst.catalog), watching(analyst.catalog)
        read(one, first)
        after, alone = read(one, second), read(other, second)
        assert after.outputs == alone.outputs
        assert after.action.resources == alone.action.resources


@pytest.mark.parametrize(
    ("options", "unusual"),
    [
        ("", False),
        ("(format csv, header, null 'none', force_quote *)", False),
        ("(format binary)", False),
        ("(format csv, quote '@')", True),
        ("(delimiter ';')", True),
        ("(format csv, escape '.')", True),
        ("(encoding 'latin1')", True),
    ],
)
def test_copies_with_marks_of_their_own_are_told(analyst: CatalogAnalyst, options: str, unusual: bool) -> None:
    assert read(analyst, f"COPY users TO STDOUT {options}").unusual_copy is unusual
    assert read(analyst, f"SELECT 1; COPY users TO STDOUT {options}; SELECT 2").unusual_copy is unusual
    assert not read(analyst, f"COPY users FROM STDIN {options}").unusual_copy


def test_watched_columns_are_known_by_their_numbers_too(watcher: CatalogAnalyst) -> None:
    users = watcher.catalog.relations["public", "users"]
    found = {name: watcher.watched_at(users.oid, number) for name, number in users.numbers.items()}
    assert {name: origins for name, origins in found.items() if origins} == {
        "email": {("public.users", "email")},
        "ssn": {("public.users", "ssn")},
    }
    assert watcher.watched_at(0, 0) == watcher.watched_at(users.oid, 0) == frozenset()
    assert watcher.watched_at(watcher.catalog.relations["public", "orders"].oid, 1) == frozenset()
