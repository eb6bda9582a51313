-- A shop whose personal data is masked, for the queries of harmless_masks.yaml.
create schema shop;
create table shop.customers (id int primary key, name text not null, city text, email text unique, ssn text,
    joined date, note text);
create table shop.orders (id int primary key, customer int references shop.customers, total numeric(10, 2),
    status text, placed timestamp);
create table shop.products (id int primary key, name text, tags text[], attributes jsonb);
create table shop.items (id int primary key, order_id int references shop.orders, product int references shop.products,
    quantity int, price numeric(10, 2));
create table shop.payments (id int primary key, customer int references shop.customers, amount numeric(10, 2),
    card text, paid date);
create table shop.staff (id int primary key, name text, manager int references shop.staff, salary int);
create table shop.warehouses (id int primary key, city text);
create table shop.visits (id int, region text, page text, address inet) partition by list (region);
create table shop.visits_north partition of shop.visits for values in ('north');
create table shop.visits_south partition of shop.visits for values in ('south');
insert into shop.customers select g, 'Customer ' || g, (array['Lyon', 'Oslo', 'Leeds'])[1 + g % 3],
    'customer' || g || '@corp.example', lpad(g::text, 3, '9') || '-12-3456', date '2024-01-01' + g * 11,
    case when g % 2 = 0 then 'even' end from generate_series(1, 20) g;
insert into shop.orders select g, 1 + g % 15, g * 7.25, (array['open', 'paid', 'sent'])[1 + g % 3],
    timestamp '2024-01-01 08:00' + g * interval '9 hours' from generate_series(1, 60) g;
insert into shop.products select g, 'Product ' || g, (array['new', 'sale', 'old'])[1 + g % 2 : 3],
    jsonb_build_object('colour', (array['red', 'blue'])[1 + g % 2], 'sizes', jsonb_build_array(g, g + 1))
    from generate_series(1, 8) g;
insert into shop.items select g, 1 + g % 60, 1 + g % 8, 1 + g % 3, g * 1.5 from generate_series(1, 100) g;
insert into shop.payments select g, 1 + g % 20, g * 3.5, '4111111111111111', date '2024-02-01' + g
    from generate_series(1, 30) g;
insert into shop.staff select g, 'Person ' || g, case when g > 1 then g / 2 end, 50000 + g from generate_series(1, 9) g;
insert into shop.warehouses values (1, 'Oslo'), (2, 'Turin');
insert into shop.visits select g, (array['north', 'south'])[1 + g % 2], '/page/' || g, '10.0.0.1'
    from generate_series(1, 10) g;
create view shop.open_orders as select id, total from shop.orders where status = 'open';
create view shop.cities as select city, count(*) as customers from shop.customers group by city;
create view shop.roster as select id, name, city from shop.customers;
create view shop.contacts as select id, name, email as contact from shop.customers;
create materialized view shop.monthly as select to_char(placed, 'YYYY-MM') as month, sum(total) from shop.orders group by 1;
create function shop.with_tax(amount numeric) returns numeric language sql immutable as $$ select amount * 1.25 $$;
analyze;
