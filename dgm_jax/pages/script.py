"""The script of all pages: values under the pointer, the switch to a logarithmic scale, pictures by step.

Pages read without it: curves have labels and last values, and of each picture the newest is shown.
"""

from dgm_jax.pages import svg

__all__ = ['SCRIPT']

FRAME = f"'use strict';\nconst WIDTH = {svg.WIDTH}, HEIGHT = {svg.HEIGHT}, TOP = {svg.TOP};"
SCRIPT = (
  FRAME
  + """

// Of the points [x, y], which rise in x, the one whose x is nearest.
function nearest(points, x) {
  return points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
}

function addValues(figure) {
  const {span, series, colours} = JSON.parse(figure.dataset.points), left = Number(figure.dataset.left);
  const filled = Object.entries(series).filter(([, points]) => points.length);
  const svg = figure.querySelector('svg'), box = document.createElement('div');
  const cross = document.createElementNS(svg.namespaceURI, 'line');
  if (!filled.length) return;
  box.className = 'values';
  box.hidden = true;
  figure.append(box);
  cross.setAttribute('class', 'cross');
  cross.setAttribute('y2', HEIGHT);
  cross.setAttribute('visibility', 'hidden');
  svg.querySelector('g').append(cross);

  svg.addEventListener('pointermove', event => {
    const place = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / place.width;
    const share = ((event.clientX - place.left) * scale - left) / WIDTH;
    const wanted = span[0] + Math.min(1, Math.max(0, share)) * (span[1] - span[0]);
    const [x] = nearest(filled.map(([, points]) => nearest(points, wanted)), wanted);
    const at = span[1] > span[0] ? WIDTH * (x - span[0]) / (span[1] - span[0]) : WIDTH / 2;
    cross.setAttribute('x1', at);
    cross.setAttribute('x2', at);
    cross.setAttribute('visibility', 'visible');
    box.replaceChildren(`${x}`);
    for (const [name, points] of filled) {
      const [there, y] = nearest(points, x), line = document.createElement('div'), mark = document.createElement('i');
      mark.style.background = colours[name];
      line.append(mark, `${name} ${y}` + (there === x ? '' : ` (at ${there})`));
      box.append(line);
    }
    box.hidden = false;
    const right = (left + at) / scale + 10;
    const room = figure.clientWidth - box.offsetWidth;
    box.style.left = `${Math.max(0, right > room ? right - box.offsetWidth - 20 : right)}px`;
    box.style.top = `${place.top - figure.getBoundingClientRect().top + TOP / scale + 4}px`;
  });
  svg.addEventListener('pointerleave', () => {
    box.hidden = true;
    cross.setAttribute('visibility', 'hidden');
  });
}

function addLogSwitch(figure) {
  const drawings = ['linear', 'log'].map(name => figure.querySelector(`g.${name}`));
  if (!drawings[1]) return;
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'log';
  button.title = 'logarithmic scale';
  button.setAttribute('aria-pressed', false);
  button.addEventListener('click', () => {
    const log = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', log);
    drawings[0].setAttribute('visibility', log ? 'hidden' : 'visible');
    drawings[1].setAttribute('visibility', log ? 'visible' : 'hidden');
  });
  figure.append(button);
}

// The steps of the images of a figure.
function stepsOf(figure) {
  return [...figure.querySelectorAll('img')].map(image => Number(image.dataset.step));
}

function showStep(figure, wanted) {
  const images = [...figure.querySelectorAll('img')];
  const [, number] = nearest(stepsOf(figure).map((step, number) => [step, number]), wanted);
  images.forEach((image, at) => { image.hidden = at !== number; });
  figure.querySelector('input').value = number;
  figure.querySelector('figcaption').textContent = `step ${images[number].dataset.step}`;
}

// Pictures beside one another move together, each to its nearest step.
function addSlider(figure) {
  const slider = figure.querySelector('input'), sides = figure.closest('.sides');
  slider.hidden = false;
  slider.addEventListener('input', () => {
    const step = stepsOf(figure)[slider.value];
    (sides ? [...sides.querySelectorAll('figure.steps')] : [figure]).forEach(other => showStep(other, step));
  });
}

document.querySelectorAll('figure[data-points]').forEach(addValues);
document.querySelectorAll('figure.curve').forEach(addLogSwitch);
document.querySelectorAll('figure.steps').forEach(addSlider);
"""
)
