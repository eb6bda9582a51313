"""The scratch schema: what is planted in it, and which of its columns are masked in which way.

Everything that the corpus says about the schema `scratch` is said of this one, under whatever name it has.
"""

import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Final

from bastion.protocols.postgres.leaks.canaries import Canary, planted, word

PEOPLE: Final = 3
COVERS: Final[Mapping[str, object]] = {
    "full": "full",
    "partial": "partial",
    "hash": "hash",
    "null": "null",
    "fixed": {"fixed": "7"},
}
"""The covers, by a name for each."""
TYPES: Final = {
    "words": ("text", "text"),
    "short": ("varchar(40)", "text"),
    "padded": ("char(20)", "text"),
    "label": ("name", "text"),
    "num": ("numeric(24,2)", "numeric"),
    "small": ("int4", "int4"),
    "large": ("int8", "int8"),
    "real": ("float8", "float8"),
    "day": ("date", "date"),
    "moment": ("timestamp", "timestamp"),
    "instant": ("timestamptz", "timestamptz"),
    "clock": ("time", "time"),
    "ident": ("uuid", "uuid"),
    "doc": ("json", "json"),
    "docb": ("jsonb", "json"),
    "raw": ("bytea", "bytes"),
    "list": ("text[]", "array"),
    "nums": ("int4[]", "numbers"),
    "span": ("int4range", "range"),
    "host": ("inet", "inet"),
    "bits": ("varbit", "bits"),
    "lexemes": ("tsvector", "lexemes"),
    "dom": ("scratch.secret_text", "text"),
    "pair": ("scratch.pair", "composite"),
    "feeling": ("scratch.feeling", "text"),
}
"""The columns of the tables of all types: the type of each, and the kind of canary in it."""
_MASKED: Final[Mapping[str, Mapping[str, str]]] = {
    "full": {
        "people.email": "mail",
        "wages.amount": "numeric",
        "wages.hired": "date",
        "docs.doc": "json",
        "visits.token": "text",
        "beasts.name": "text",
        "noisy.email": "mail",
        "made.email": "mail",
        "cars.plate": "text",
        "rides.plate": "text",
        "lists.tags": "array",
        "trees.label": "text",
    },
    "partial": {"people.phone": "text"},
    "hash": {"people.ssn": "text"},
    "null": {"people.iban": "text"},
    "fixed": {"people.badge": "text"},
}
_OPEN: Final = ("people.name", "wages.note", "docs.title", "beasts.sort", "trips.place")
_SCRATCH: Final = re.compile(r"\bscratch\b")
_VALUE: Final = re.compile(r"<<([a-z_]+\.[a-z_]+)>>")
_TABLES: Final = """
create domain scratch.secret_text as text check (length(value) < 100);
create type scratch.pair as (number int, word text);
create type scratch.mood as enum ('calm', 'cross');
create table scratch.people (
    id int primary key, name text not null, team text not null, boss int, email text unique, phone text,
    ssn text, iban text, badge text, mood scratch.mood not null default 'calm'
);
create index on scratch.people (phone);
create table scratch.wages (person int references scratch.people, amount numeric(24, 2) check (amount > 0),
    hired date, note text not null);
create table scratch.docs (id int primary key, title text not null, doc jsonb not null);
create table scratch.lists (id int primary key, tags text[] not null);
create table scratch.trees (id int primary key, parent int, label text not null);
create table scratch.inbox (id int, payload text, count numeric);
create table scratch.made (id int primary key, email text, loud text generated always as (upper(email)) stored);
create table scratch.noisy (id int primary key, email text, note text);
create table scratch.visits (id int, region text, token text) partition by list (region);
create table scratch.visits_a partition of scratch.visits for values in ('a');
create table scratch.visits_b partition of scratch.visits for values in ('b');
create table scratch.trips (id int, region text, place text) partition by list (region);
create table scratch.trips_a partition of scratch.trips for values in ('a');
create table scratch.trips_b partition of scratch.trips for values in ('b');
create table scratch.owners (id int primary key, name text);
create table scratch.cars (
    id int primary key, owner int references scratch.owners on delete cascade, plate text unique
);
create table scratch.rides (id int primary key, plate text references scratch.cars (plate));
create table scratch.watched (id int);
create table scratch.ruled (id int);
create table scratch.beasts (id int, name text, sort text);
create table scratch.dogs (tricks int) inherits (scratch.beasts)
"""
_VIEWS: Final = (
    "view scratch.contacts as select id, name, email as contact from scratch.people",
    "view scratch.deep as select id, contact as reach from scratch.contacts where id < 100",
    "view scratch.barrier with (security_barrier) as select id, phone as line from scratch.people",
    "view scratch.roster as select id, name, team from scratch.people",
    "view scratch.payroll as select name, amount as pay, note from scratch.people join scratch.wages on person = id",
    "view scratch.headcount as select team, count(*) as members from scratch.people group by team",
    "materialized view scratch.kept as select id, name, email as note from scratch.people",
    "materialized view scratch.kept_open as select id, name from scratch.people",
)
_FUNCTIONS: Final = """
create function scratch.mail_of(who int) returns text language sql stable security definer
    as $$ select email from scratch.people where id = who $$;
create function scratch.mail_fixed(who int) returns text language sql immutable
    as $$ select email from scratch.people where id = who $$;
create function scratch.card_of(who int, out name text, out number text) language sql stable
    as $$ select p.name, p.ssn from scratch.people p where p.id = who $$;
create function scratch.mails() returns setof text language sql stable
    as $$ select email from scratch.people order by id $$;
create function scratch.rows_of() returns setof scratch.people language sql stable
    as $$ select * from scratch.people order by id $$;
create function scratch.inline_mails() returns table (id int, note text) language sql stable
    as $$ select id, email from scratch.people $$;
create function scratch.told(what text) returns bool language plpgsql
    as $$ begin raise notice 'told %', what; return true; end $$;
create function scratch.refused(what text) returns bool language plpgsql
    as $$ begin raise exception 'refused %', what using detail = what, hint = what; end $$;
create function scratch.opened() returns refcursor language plpgsql as $$
    declare found refcursor := 'opened';
    begin open found for select email from scratch.people order by id; return found; end $$;
create function scratch.ran(what text) returns text language plpgsql
    as $$ declare found text; begin execute what into found; return found; end $$;
create function scratch.same(what text) returns text language sql immutable as $$ select what $$;
create function scratch.shout() returns bool language plpgsql as $$
    declare found text;
    begin
        select email into found from scratch.people where id = 1;
        raise notice 'first %', found using detail = found, hint = found, column = found, table = found;
        raise warning 'then %', found;
        return true;
    end $$;
create function scratch.thrown() returns bool language plpgsql as $$
    declare found text;
    begin
        select email into found from scratch.people where id = 1;
        raise exception 'it was %', found using detail = found, schema = found, constraint = found, datatype = found;
    end $$;
create function scratch.garbled() returns bool language plpgsql as $$
    declare found text;
    begin select email into found from scratch.people where id = 1; execute found; return true; end $$;
create function scratch.called() returns bool language plpgsql as $$
    declare found text;
    begin
        select email into found from scratch.people where id = 1;
        perform pg_notify('news', found);
        return true;
    end $$;
create function scratch.titled() returns bool language plpgsql as $$
    declare found text;
    begin
        select ssn into found from scratch.people where id = 1;
        perform set_config('application_name', found, false);
        return true;
    end $$;
create function scratch.watch() returns trigger language plpgsql as $$
    declare found text;
    begin select email into found from scratch.people where id = 1; raise notice 'saw %', found; return new; end $$;
create trigger watch before insert on scratch.watched for each row execute function scratch.watch();
create rule told as on insert to scratch.ruled do also select email from scratch.people;
create function scratch.sold() returns trigger language plpgsql
    as $$ begin raise notice 'sold %', old.plate; return old; end $$;
create trigger sold before delete on scratch.cars for each row execute function scratch.sold();
create statistics scratch.pairs (mcv) on phone, team from scratch.people;
create function scratch.noise() returns trigger language plpgsql
    as $$ begin raise notice 'changed %', new.email; return new; end $$;
create trigger noise before update on scratch.noisy for each row execute function scratch.noise();
create function scratch.stop() returns trigger language plpgsql
    as $$ begin raise exception 'row % cannot go', old.email; end $$;
create trigger stop before delete on scratch.noisy for each row execute function scratch.stop();
create function scratch.joined(text, text) returns text language sql immutable as $$ select $1 || $2 $$;
create operator scratch.|+| (leftarg = text, rightarg = text, function = scratch.joined);
create aggregate scratch.all_of (text) (sfunc = scratch.joined, stype = text, initcond = '')
"""


class Ground:
    """One scratch schema with the canaries of one run."""

    def __init__(self, schema: str, random: Random) -> None:
        self.schema = schema
        self.masked: dict[str, list[Canary]] = {}
        """The canaries of each masked column, as `table.column`, row by row."""
        self.open = {column: [word(random) for _ in range(PEOPLE)] for column in _OPEN}
        """What stands in columns that no mask names."""
        for cover, columns in self._columns().items():
            for column, kind in columns.items():
                self.masked[column] = [planted(column, kind, random) for _ in range(PEOPLE)]
                self._covers[column] = cover

    @property
    def canaries(self) -> Iterator[Canary]:
        """Every canary."""
        for found in self.masked.values():
            yield from found

    def masks(self) -> list[dict[str, object]]:
        """Return the masks, as a policy writes them, without whom they spare."""
        named = {
            cover: [f"{self.schema}.{column}" for column, its in self._covers.items() if its == cover]
            for cover in COVERS
        }
        return [{"name": f"leak-test-{cover}", "columns": named[cover], "cover": COVERS[cover]} for cover in COVERS]

    def filled(self, text: str) -> str:
        """Return a text of the corpus as it is meant here: the schema's name, and values for `<<table.column>>`."""

        def value(match: re.Match[str]) -> str:
            column = match[1]
            return self.masked[column][0].literal if column in self.masked else self.open[column][0]

        return _VALUE.sub(value, _SCRATCH.sub(self.schema, text))

    def statements(self) -> Iterator[str]:
        """Yield what makes the schema, in as few texts as a gateway can judge.

        In a text that has changed the catalog, it knows nothing of what a query after that would mean.
        """
        columns = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())
        tables = (f"create table scratch.types_{cover} (id int primary key, {columns})" for cover in COVERS)
        yield self.filled("create schema scratch")
        yield self.filled(";\n".join([self._labels(), _TABLES, *tables]))
        yield self.filled(";\n".join(self._rows()))
        for view in _VIEWS:
            yield self.filled(f"create {view}")
        yield self.filled(_FUNCTIONS)
        yield self.filled("analyze scratch.people")

    def removal(self) -> str:
        """Return what takes the schema away again."""
        return f"drop schema if exists {self.schema} cascade"

    def _columns(self) -> dict[str, dict[str, str]]:
        self._covers: dict[str, str] = {}
        found = {cover: dict(columns) for cover, columns in _MASKED.items()}
        for cover in COVERS:
            found[cover] |= {f"types_{cover}.{name}": kind for name, (_, kind) in TYPES.items()}
        return found

    def _rows(self) -> Iterator[str]:
        for row in range(PEOPLE):
            number, region, is_first = str(row + 1), "ab"[row > 0], row == 0
            team = "dev" if row == PEOPLE - 1 else "ops"
            wanted = ("people.email", "people.phone", "people.ssn", "people.iban", "people.badge")
            yield self._insert("people", row, number, "people.name", f"'{team}'", "1", *wanted)
            yield self._insert("wages", row, number, "wages.amount", "wages.hired", "wages.note")
            yield self._insert("docs", row, number, "docs.title", "docs.doc")
            yield self._insert("lists", row, number, "lists.tags")
            yield self._insert("trees", row, number, "null" if is_first else str(row), "trees.label")
            yield self._insert("made (id, email)", row, number, "made.email")
            yield self._insert("noisy", row, number, "noisy.email", "'quiet'")
            yield self._insert("visits", row, number, f"'{region}'", "visits.token")
            yield self._insert("owners", row, number, "'an owner'")
            yield self._insert("cars", row, number, number, "cars.plate")
            if not is_first:
                yield self._insert("rides", row, number, "cars.plate")
            yield self._insert("trips", row, number, f"'{region}'", "trips.place")
            own = ("beasts",) if is_first else ("dogs", "3")
            yield self._insert(own[0], row, number, "beasts.name", "beasts.sort", *own[1:])
            for cover in COVERS:
                yield self._insert(f"types_{cover}", row, number, *(f"types_{cover}.{name}" for name in TYPES))
        yield self._insert("inbox", 0, "1", "'nothing'", "1")

    def _labels(self) -> str:
        """Return what makes a type that has canaries for labels."""
        canaries = [canary.text for cover in COVERS for canary in self.masked[f"types_{cover}.feeling"]]
        labels = ", ".join(f"'{label}'" for label in ["calm", *canaries])
        return f"create type scratch.feeling as enum ({labels})"

    def _insert(self, table: str, row: int, *values: str) -> str:
        """Return a statement that inserts values: those of columns by their names, others as they are."""
        filled = ", ".join(self._at(value, row) if "." in value else value for value in values)
        return f"insert into scratch.{table} values ({filled})"  # noqa: S608  (our own words and values)

    def _at(self, column: str, row: int) -> str:
        value = self.masked[column][row].literal if column in self.masked else self.open[column][row]
        return "'" + value.replace("'", "''") + "'"
