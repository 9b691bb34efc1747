"""`python -m gateway` and the command `chatgpt-ms`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exits with 0, or with the code of the error that ended it."""
    from gateway.garbage import start_without_collecting

    start_without_collecting()
    from gateway.cli import cli

    sys.exit(cli())


if __name__ == "__main__":
    main()
