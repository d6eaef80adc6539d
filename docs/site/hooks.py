"""Pages of the site that are made of other files: home, gallery, examples, experiments, reference."""

import ast
import json
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'results'
# Page of the reference -> the modules on it: all files of a folder, or one.
MODULES = ('losses', 'distributions', 'core', 'views', 'evals', 'nn', 'models', 'systems', 'optim')
TEXTS = {'index.md': 'README.md', 'contributing.md': 'CONTRIBUTING.md', 'changelog.md': 'CHANGELOG.md'}
SHOWN = 4  # figures of a record in the gallery


def on_files(files, config):
  """Adds the pages that are made, and the pictures of results/."""
  pages = {name: (ROOT / source).read_text() for name, source in TEXTS.items()}
  pages |= {'gallery.md': gallery(), 'examples.md': examples(), 'experiments.md': experiments()}
  pages |= {f'api/{name}.md': reference(name) for name in MODULES}
  pages['api/dgm_jax.md'] = (
    '# dgm_jax\n\n::: dgm_jax.api\n    options: {members: false, show_root_heading: false}\n'
    + ''.join(f'\n::: dgm_jax.api.{path}\n' for path in ('model.load', 'fitting.fit', 'model.Model'))
  )
  pages['site.css'] = (pathlib.Path(__file__).parent / 'site.css').read_text()
  for name, text in pages.items():
    files.append(File.generated(config, name, content=text))
  for path in RESULTS.glob('*.png'):
    files.append(File.generated(config, f'results/{path.name}', abs_src_path=str(path)))
  return files


def on_page_markdown(markdown, page, config, files):
  """Points links into the repository at the pages that show what they lead to."""
  source = TEXTS.get(page.file.src_uri)
  if source:
    names = {path: name for name, path in TEXTS.items()}
    markdown = re.sub(r'\]\((\w+\.md)\)', lambda found: f']({names.get(found[1], found[1])})', markdown)
    markdown = re.sub(r'\]\(docs/', '](', markdown)
    markdown = re.sub(r'\[([^]]+)\]\((?:weights|examples)[^)]*\)', r'\1', markdown)
  markdown = re.sub(r'\]\(\.\./configs/(\w+)\.py\)', r'](experiments.md#\1)', markdown)
  return markdown.replace('](../results/', '](results/')


def reference(name):
  """The page of a module, or of the modules of a folder: those that __init__ takes names from, or all."""
  folder = ROOT / 'dgm_jax' / name
  lines = [f'# dgm_jax.{name}', '']
  if not folder.is_dir():
    return '\n'.join([*lines, f'::: dgm_jax.{name}', '    options: {show_root_heading: false}', ''])
  lines += [f'{ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))}', '']
  for path in sorted(folder.glob('[a-z]*.py')):
    lines += [f'::: dgm_jax.{name}.{path.stem}', '']
  return '\n'.join(lines)


def gallery():
  """Each picture of results/ with its experiment, its length and its first figures."""
  records = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob('*.json'))}
  text = '# Gallery\n\nPictures of recorded runs: each was trained by `dgm train` on the experiment that is named.\n'
  text += 'Figures are those of its record in `results/`.\n'
  for path in sorted(RESULTS.glob('*.png')):
    owner = max((name for name in records if path.stem.startswith(name)), key=len, default='')
    what = path.stem.removeprefix(owner).strip('_').replace('_', ' ')
    page = records.get(owner, {})
    title = f'{owner.replace("_", " ")}: {what}'
    text += f'\n## {title}\n\n![{title}](results/{path.name})\n'
    if 'system' in page:
      named = [(name, value) for name, value in page['metrics'].items() if isinstance(value, float)]
      figures = ', '.join(f'{name} {value:.5g}' for name, value in named[:SHOWN])
      changes = ''.join(f' --config.{change}' for change in page['overrides'])
      text += f'\n`dgm train --config={page["config"]}{changes}`, {page["steps"]} steps of {page["data"]}: {figures}.\n'
  return text


def examples():
  """The scripts of examples/."""
  text = '# Examples\n'
  for path in sorted((ROOT / 'examples').glob('*.py')):
    title = path.stem.replace('_', ' ').capitalize()
    text += f'\n## {title}\n\n`python examples/{path.name}`\n\n```python\n{path.read_text()}```\n'
  return text


def experiments():
  """What the files of configs/ say of themselves."""
  text = '# Experiments\n\n`dgm list` prints them, `dgm train --help --config=NAME` every key of one with its value.\n'
  for path in sorted((ROOT / 'configs').glob('*.py')):
    said = ast.get_docstring(ast.parse(path.read_text())) or ''
    text += f'\n## {path.stem}\n\n```text\n{said}\n```\n'
  return text
