"""Run the command line; deliberate errors become a line and a status, bugs a traceback."""

import sys


def run() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] == ["--version"]:
        from bastion import __version__

        sys.stdout.write(f"bastion {__version__}\n")
        return
    from bastion.cli.app import app
    from bastion.errors import BastionError

    try:
        app(prog_name="bastion")
    except BastionError as error:
        from bastion.cli.output import OUT

        OUT.error(error)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    run()
