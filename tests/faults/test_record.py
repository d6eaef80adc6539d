"""The table of docs/reliability.md is the record's."""

import table


def test_the_table_is_that_of_the_record():
  old, new = table.rendered()
  assert old == new, 'run python tests/faults/table.py'
