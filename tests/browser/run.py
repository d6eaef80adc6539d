"""Makes every kind of page at the size of a test and looks at each in a browser without a window.

Usage: python tests/browser/run.py [FOLDER]

Each page is opened 800 and 1,600 pixels wide, for a light and for a dark screen. It fails on an error of a script, on
what is clipped or leaves the page, and on text that cannot be told from its background (check.js). With FOLDER, pages
and pictures of them stay there.
"""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
WIDTHS, HEIGHT = (800, 1600), 2400
SCREENS = {'light': 1, 'dark': 0}  # as Chromium numbers them
ERRORS = "window.problems = []; window.addEventListener('error', event => window.problems.push(event.message));"
HEAVY = 2000  # problems of one page that are printed, in characters


def programs(folder):
  """The commands that make pages, and the page that each makes."""
  runs = {
    'vae': ('vae_digits:tiny', '--config.model.latents=4', '--config.picture_every=2'),
    'other': ('vae_digits:tiny', '--config.seed=1', '--config.picture_every=2'),
    'points': ('gan_points:tiny',),
  }  # fmt: skip
  for name, (config, *changes) in runs.items():
    yield ['-m', 'dgm_jax.train', f'--config={config}', f'--workdir={folder / name}', *changes], f'{name}/report.html'
  yield ['-m', 'dgm_jax.evaluate', f'--workdir={folder / "vae"}', '--samples=8'], None
  compared = [str(folder / name) for name in ('vae', 'other', 'points')]
  yield ['-m', 'dgm_jax.report', '--compare', *compared, f'--out={folder / "compare.html"}'], 'compare.html'
  yield ['-m', 'dgm_jax.report', '--topic=mean_field', f'--out={folder / "theory.html"}'], 'theory.html'
  study = ('--name=disentanglement', '--only=beta_small', '--weights=1,4', '--seeds=1', '--steps=4', '--size=16')
  yield ['-m', 'dgm_jax.study', *study, f'--out={folder / "study"}'], 'study/study.html'
  yield [str(pathlib.Path(__file__).parent / 'odd.py'), str(folder / 'odd.html')], 'odd.html'
  yield ['-c', TABLES.format(str(folder / 'tables.html'))], 'tables.html'


TABLES = """
import pathlib
from dgm_jax.pages import tables
pathlib.Path({!r}).write_text(tables.page(tables.sections(tables.read_archive('results'))))
"""


def make(folder):
  """Runs the programs, and returns the pages."""
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'PYTHONPATH': str(ROOT)}
  pages = []
  for words, page in programs(folder):
    print(f'  making {page or "figures"}', flush=True)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
      sys.exit(f'error: {" ".join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}')
    pages += [folder / page] if page else []
  return pages


def look(browser, page, width, screen, keep):
  """Opens a page, and returns what is wrong with it."""
  text = page.read_text()
  check = (pathlib.Path(__file__).parent / 'check.js').read_text()
  checked = page.with_name(f'checked_{page.name}')
  checked.write_text(
    text.replace('<head>', f'<head><script>{ERRORS}</script>', 1).replace('</body>', f'<script>{check}</script></body>')
  )
  options = ['--headless', '--disable-gpu', '--hide-scrollbars', f'--window-size={width},{HEIGHT}']
  options += ['--no-sandbox'] if os.geteuid() == 0 else []
  options += [f'--blink-settings=preferredColorScheme={SCREENS[screen]}', '--enable-logging=stderr']
  done = subprocess.run(
    [browser, *options, '--dump-dom', checked.as_uri()], capture_output=True, text=True, timeout=120
  )
  checked.unlink()
  if keep:
    picture = page.with_name(f'{page.stem}_{width}_{screen}.png')
    subprocess.run([browser, *options, f'--screenshot={picture}', page.as_uri()], capture_output=True, timeout=120)
  found = re.search(r'<pre id="problems">(.*?)</pre>', done.stdout, re.S)
  if not found:
    return [f'the browser did not come to an end: {done.stderr[-500:]}']
  logged = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
  return json.loads(html.unescape(found[1])) + logged


def main():
  browser = next(filter(None, map(shutil.which, BROWSERS)), None)
  if not browser:
    sys.exit('error: no browser was found; install one (apt-get install chromium) and run make pages again')
  keep, failures = len(sys.argv) > 1, 0
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(sys.argv[1] if keep else name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pages = make(folder)
    for page in pages:
      for width in WIDTHS:
        for screen in SCREENS:
          problems = look(browser, page, width, screen, keep)
          failures += bool(problems)
          print(f'  {page.relative_to(folder)}, {width} pixels, {screen}: {"ok" if not problems else ""}', flush=True)
          print(''.join(f'    {problem}\n' for problem in problems)[:HEAVY], end='')
  if failures:
    sys.exit(f'error: {failures} of {len(pages) * len(WIDTHS) * len(SCREENS)} looks found something wrong')
  print(f'{len(pages)} pages are right at {" and ".join(map(str, WIDTHS))} pixels, light and dark')


if __name__ == '__main__':
  main()
