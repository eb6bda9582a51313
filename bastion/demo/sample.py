"""Invented data of a small web shop: the same on every machine, and real enough to be worth protecting.

Card numbers pass the Luhn test and social security numbers have the right shape, in ranges that are never issued.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

SCHEMA = """
create table customers (
    id integer primary key,
    name text not null,
    email text not null unique,
    phone text not null,
    ssn text not null,
    city text not null,
    joined_on date not null
);
create table orders (
    id integer primary key,
    customer_id integer not null references customers,
    placed_at timestamptz not null,
    status text not null check (status in ('paid', 'shipped', 'returned', 'abandoned')),
    total numeric(10, 2) not null
);
create index on orders (customer_id);
create table payments (
    id integer primary key,
    order_id integer not null references orders,
    card_number text not null,
    card_holder text not null,
    amount numeric(10, 2) not null,
    paid_at timestamptz not null
);
create index on payments (order_id);
create table staff (
    id integer primary key,
    name text not null,
    email text not null unique,
    ssn text not null,
    role text not null,
    salary integer not null,
    manager_id integer references staff
);
"""
CUSTOMERS, ORDERS, STAFF = 2000, 5000, 60
_START = datetime(2023, 1, 2, 8, 0, tzinfo=UTC)
_FIRST = (  # noqa: SIM905 (a list of names reads better unquoted)
    "Amelia Benjamin Chloe Daniel Eleni Farid Greta Hassan Ines Jakub Keiko Liam Maria Noor Olga Pablo Quinn Rosa "
    "Samuel Tariq Uma Victor Wanda Ximena Yusuf Zoé"
).split()
_LAST = (  # noqa: SIM905 (as above)
    "Abbott Becker Castillo Dvořák Eriksen Fischer García Haddad Ito Jensen Kowalski Lindgren Moreau Novak Okafor "
    "Petrov Quintero Rossi Silva Tanaka Usman Vargas Weber Xu Yılmaz Zimmer"
).split()
_CITIES = ("Lisbon", "Gdańsk", "Nairobi", "Osaka", "Lyon", "Porto Alegre", "Tampere", "Leeds", "Boise", "Izmir")
_ROLES = ("support", "support", "warehouse", "warehouse", "engineer", "finance")

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one table, in an order that satisfies its references."""

    name: str
    rows: list[Row]


def tables() -> list[Table]:
    """Return every table with its rows, in the order in which they can be loaded."""
    # Not for anything secret: the point of this generator is that it repeats itself.
    random = Random(20240229)  # noqa: S311
    customers = list(_customers(random))
    orders = list(_orders(random))
    return [
        Table("customers", customers),
        Table("orders", orders),
        Table("payments", list(_payments(random, customers, orders))),
        Table("staff", list(_staff(random))),
    ]


def passes_luhn(digits: str) -> bool:
    """Tell whether a card number's check digit is right."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _customers(random: Random) -> Iterator[Row]:
    for number in range(1, CUSTOMERS + 1):
        first, last = random.choice(_FIRST), random.choice(_LAST)
        yield (
            number,
            f"{first} {last}",
            f"{_plain(first)}.{_plain(last)}{number}@example.{random.choice(['com', 'org', 'net'])}",
            f"+1-555-01{random.randrange(100):02d}",
            _ssn(random),
            random.choice(_CITIES),
            (_START + timedelta(days=random.randrange(700))).date(),
        )


def _orders(random: Random) -> Iterator[Row]:
    placed = _START
    for number in range(1, ORDERS + 1):
        placed += timedelta(minutes=random.randrange(20, 400))
        status = random.choices(["paid", "shipped", "returned", "abandoned"], weights=[20, 70, 5, 5])[0]
        yield number, random.randint(1, CUSTOMERS), placed, status, f"{random.randrange(500, 40000) / 100:.2f}"


def _payments(random: Random, customers: list[Row], orders: list[Row]) -> Iterator[Row]:
    number = 0
    for order, customer, placed, status, total in orders:
        if status == "abandoned":
            continue
        number += 1
        assert isinstance(customer, int) and isinstance(placed, datetime)  # noqa: PT018, S101 (for the type checker)
        holder = customers[customer - 1][1]
        yield number, order, _card(random), holder, total, placed + timedelta(minutes=random.randint(1, 30))


def _staff(random: Random) -> Iterator[Row]:
    for number in range(1, STAFF + 1):
        first, last = random.choice(_FIRST), random.choice(_LAST)
        manager = None if number == 1 else random.randint(1, min(number - 1, 6))
        role = "director" if number == 1 else "lead" if number <= 6 else random.choice(_ROLES)
        salary = {"director": 160, "lead": 110}.get(role, 60) * 1000 + random.randrange(0, 20000, 250)
        email = f"{_plain(first)}.{_plain(last)}{number}@shop.example"
        yield number, f"{first} {last}", email, _ssn(random), role, salary, manager


def _ssn(random: Random) -> str:
    # Area numbers from 900 are never issued.
    return f"{random.randint(900, 999)}-{random.randint(1, 99):02d}-{random.randint(1, 9999):04d}"


def _card(random: Random) -> str:
    body = random.choice(["400000", "510000", "340000"]) + "".join(str(random.randrange(10)) for _ in range(9))
    if body.startswith("34"):
        body = body[:14]
    return next(body + str(digit) for digit in range(10) if passes_luhn(body + str(digit)))


def _plain(name: str) -> str:
    """Return a name as it can stand in an e-mail address."""
    return name.lower().translate(str.maketrans("éíıřžáčö", "eiirzaco"))
