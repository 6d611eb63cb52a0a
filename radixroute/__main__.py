"""The command `radixroute`: hands over to the command line. Owns nothing."""

from radixroute.cli.app import app


def main() -> None:
    """Entry point of the installed command and of `python -m radixroute`."""
    app(prog_name="radixroute")


if __name__ == "__main__":
    main()
