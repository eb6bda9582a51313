"""What the leak test tells of what it tried."""

from bastion.doctor.report import Report
from bastion.protocols.clientside import Tried


def made(*tried: Tried) -> Report:
    report = Report("db", ("one", "two"), {"three": "it is not there"})
    report.tried += tried
    return report


GOOD = Tried("family", "star", "one", "covered")
BAD = Tried("family", "star", "two", "LEAKED", bad=True, detail="people.email (hex)")
NONE = Tried("family", "other", "one", "-")


def test_one_leak_fails_it() -> None:
    assert made(GOOD, NONE).wrong == []
    assert made(GOOD, BAD, NONE).wrong == [BAD]
    assert made(GOOD, BAD).told()["ok"] is False


def test_matrix_has_a_row_for_each_shape_and_a_column_for_each_driver() -> None:
    assert list(made(GOOD, BAD, NONE).families()) == [("family", [("star", "covered", "LEAKED"), ("other", "-", "-")])]


def test_what_was_not_run_is_told_and_not_counted() -> None:
    told = made(GOOD, BAD, NONE).told()
    assert told["not_run"] == {"three": "it is not there"}
    assert told["counts"] == {"covered": 1, "LEAKED": 1}
    assert told["shapes"] == [
        {
            "family": "family",
            "shape": "star",
            "outcomes": {"one": {"outcome": "covered"}, "two": {"outcome": "LEAKED", "detail": "people.email (hex)"}},
        },
        {"family": "family", "shape": "other", "outcomes": {"one": {"outcome": "-"}}},
    ]
