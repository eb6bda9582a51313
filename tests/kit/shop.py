"""A small shop's database, and policies for it, for tests that talk to a target."""

SQL = """
create table people (id int primary key, name text not null, email text, born date);
create table orders (id int primary key, person int references people, amount numeric(10, 2), status text, note text);
create index orders_by_person on orders (person);
create view open_orders as select id, amount from orders where status = 'open';
create function total(who int) returns numeric language sql stable
    as $$ select sum(amount) from public.orders where person = who $$;
insert into people select g, 'Person ' || g, 'p' || g || '@example.com', date '1970-01-01' + g
    from generate_series(1, 50) g;
insert into orders select g, 1 + g % 50, g * 1.5, case when g % 3 = 0 then 'open' else 'paid' end, 'ünote ' || g
    from generate_series(1, 500) g;
comment on table people is 'Who buys';
analyze;
"""

READ_WRITE = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: engineers-work
    effect: allow
    who: {groups: [engineers]}
    sql: {access: write}
  - name: engineers-make-tables
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [create, drop, alter]}
  - name: own-functions
    effect: allow
    who: {groups: [engineers]}
    sql: {functions: [public.*, pg_catalog.pg_notify, pg_catalog.pg_sleep, pg_catalog.lo_*]}
  - name: listening
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [listen, notify, unlisten]}
"""
"""Everything ordinary is allowed: for tests of what clients do rather than of what they may."""

GUARDED = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: engineers-read
    effect: allow
    who: {groups: [engineers]}
    sql: {access: read}
  - name: inserts
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [insert], relations: [public.people]}
  - name: writes-need-a-dba
    effect: hold
    who: {groups: [engineers]}
    sql: {verbs: [update, delete, merge]}
    approval: {by: [dba], votes: 1, expires: 15m}
    reason: A second pair of eyes.
  - name: no-schema-changes
    effect: deny
    sql: {verbs: [create, alter, drop, truncate, grant, revoke]}
    reason: Schema changes go through migrations.
"""
"""Reads and one insert are allowed, changes are held, schema changes are denied."""
