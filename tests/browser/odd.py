"""Writes a page of odd charts, bars and tables into the file of its argument: what is hardest to draw without a cut."""

import math
import pathlib
import sys

from dgm_jax.pages import bars, frame, svg

LONG = 'a_very_long_name_of_a_figure_that_goes_on_and_on_and_on_without_any_place_to_break_it_given_label/10k'
STEPS = range(0, 10_000_000, 50_000)
CHARTS = {
  'small negative nats': {'train': [(x, -1.2345e-7 - 1e-11 * x) for x in STEPS]},
  'large negative nats': {'train': [(x, -123456.7 - x / 1e6) for x in STEPS]},
  'many decades': {'train': [(x, 10.0 ** (x / 1e6 - 5)) for x in STEPS], 'valid': [(5_000_000, 3.0)]},
  'loss': {'train': [(1, math.nan), (2, math.inf)]},
  'one': {'test': [(7, 0.0)]},
  'nll_nats': {f'run_{i}': [(x, i + 1 / (1 + x)) for x in STEPS] for i in range(12)},
  LONG: {LONG: [(0, 1.0), (1, 2.0)]},
}


def main():
  drawn = [svg.chart(title, series) for title, series in CHARTS.items()]
  drawn += [bars.bars('fid by class', {name: {i: -1e-4 * i for i in range(20)} for name in ('test', 'valid')})]
  rows = [[LONG, *(f'{-1.5e10 * i:.6g}' for i in range(20))] for _ in range(3)]
  body = frame.charts(drawn) + frame.table(['', *map(str, range(20))], rows, {(0, 1)}, {2})
  pathlib.Path(sys.argv[1]).write_text(frame.document(LONG, f'<p class="lead">{LONG}</p>', body))


if __name__ == '__main__':
  main()
