"""What can be expected to go wrong: a mistake of the user, and a run that cannot go on."""

__all__ = ['ALONE', 'DIVERGED', 'UNSAVED', 'Halt', 'UserError', 'printable']

DIVERGED, UNSAVED, ALONE = 3, 4, 5  # exit codes of a run that cannot go on


def printable(text: str) -> str:
  """Returns one line with control characters, which could move a terminal's cursor, written as escapes.

  A file's name may hold any of them, and bytes that are not text.
  """
  return ''.join(c if c.isprintable() else c.encode('unicode_escape', 'surrogatepass').decode() for c in text)


class UserError(Exception):
  """A mistake the user can mend: the message says what, where, and what to do, in one line.

  Attributes:
    everywhere: whether every process of the run raises it.
  """

  def __init__(self, message: str, everywhere: bool = False):
    super().__init__(printable(message))
    self.everywhere = everywhere


class Halt(Exception):
  """The run cannot go on, through nobody's mistake: the message says why, what was kept, and what to do.

  Attributes:
    code: the exit code, DIVERGED, UNSAVED or ALONE.
  """

  def __init__(self, message: str, code: int):
    super().__init__(message)
    self.code = code
