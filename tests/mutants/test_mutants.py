"""The list of planted faults is of the code as it is, and none of the record's figures is made by hand."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import mutants

LISTED = mutants.loaded('faults')
FAULTS = LISTED['by_hand'] + LISTED['drawn']


def test_a_fault_is_found_again_by_its_function_and_its_text(tmp_path, monkeypatch):
  monkeypatch.setattr(mutants, 'ROOT', tmp_path)
  text = 'import x\n\n\nclass A:\n  def f(self, a, b):\n    """a + b."""\n    return "é" + str((a + b) * (a + b))\n'
  (tmp_path / 'a.py').write_text(text)
  fault = {'file': 'a.py', 'function': 'A.f', 'source': 'a + b', 'occurrence': 1, 'replacement': 'a - b'}
  assert mutants.planted(fault) == text.replace('* (a + b)', '* ((a - b))')
  (tmp_path / 'a.py').write_text(text.replace('import x', 'import x, y\n\nZ = a + b'))
  assert 'Z = a + b' in mutants.planted(fault) and '* ((a - b))' in mutants.planted(fault)
  assert mutants.planted(fault | {'occurrence': 2}) is None


def test_the_list_has_two_hundred_places_that_are_there():
  changed = [(mutants.planted(fault), fault['file']) for fault in FAULTS]
  there = [(text, file) for text, file in changed if text is not None]
  assert len({mutants.named(fault) for fault in FAULTS}) == len(FAULTS)
  assert len(there) >= 200
  for text, file in there[::5]:
    compile(text, file, 'exec')


def test_every_file_of_the_list_has_tests_that_exist():
  root, belongs = mutants.ROOT, mutants.loaded('belongs')
  for fault in FAULTS:
    pattern = next(p for p in belongs if mutants.fnmatch.fnmatch(fault['file'], p))
    for test in belongs[pattern]:
      path = root / test.format(stem=pathlib.Path(fault['file']).stem).split()[0]
      assert path.exists(), f'{pattern}: {path.name}'


def test_the_record_adds_up_and_reasons_are_of_its_survivors():
  record = json.loads(mutants.RECORD.read_text())
  names = {mutants.named(fault) for fault in FAULTS}
  assert record['planted'] == sum(row['planted'] for row in record['by_file'].values())
  assert record['caught'] == sum(row['caught'] for row in record['by_file'].values())
  assert record['planted'] - record['caught'] == len(record['survivors'])
  assert record['share'] == round(record['caught'] / record['planted'], 4)
  assert {*record['survivors'], *record['gone'], *record['not_run']} <= names
  assert set(mutants.loaded('reasons')) <= names
