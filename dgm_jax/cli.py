"""What every command shares: one clear line and exit code 2 for a user's mistake.

Imports nothing heavy, so that `--help` and a mistyped key answer at once.
"""

import sys
from collections.abc import Callable


class UserError(Exception):
  """A mistake the user can mend: the message says what, where, and what to do."""


def run(main: Callable[[list[str]], None], argv: list[str] | None = None) -> None:
  """Runs `main(argv)`; a UserError becomes one line on stderr and exit code 2."""
  try:
    main(sys.argv if argv is None else argv)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
