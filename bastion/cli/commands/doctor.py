"""The command of operators that asks whether everything holds."""

from typing import Annotated

import typer

from bastion.cli.reach import Json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(
    leak_test: Annotated[
        str, typer.Option("--leak-test", metavar="TARGET", help="Try to get values past the masks at this target.")
    ] = "",
    driver: Annotated[
        list[str] | None,
        typer.Option("--driver", metavar="NAME", help="Test with this driver only; may be repeated."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Test a target whose labels do not say that it may be tested.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look after the set-up, and test that masks hold.

    Run it on the machine of the gateway, as its user. Without an option it tells whether the configuration and the
    policy load, whether a gateway answers, whether the newest recording holds and whether you are logged in. Exits
    with 1 if something is wrong.

    With --leak-test it makes a schema of its own at the target, fills it with values that nobody else has, puts a
    gateway of its own in front, whose policy masks them in every way, and tries every known way to see one all the
    same: with psycopg in text, binary, prepared, pipelined and through cursors, with asyncpg and with psql. Prints for
    each shape and driver whether the values were covered or the statement refused. The target has to be labelled
    `leak-test: "yes"`. The schema is dropped afterwards, also after Ctrl-C. Exits with 1 if a value came through, if
    something harmless did not, or if a driver could not read what came back.
    """
    if leak_test:
        from bastion.cli import leaks

        raise typer.Exit(leaks.leak_test(leak_test, driver or [], yes=yes, as_json=as_json))
    from bastion.cli.health import tell_health

    raise typer.Exit(tell_health(as_json=as_json))
