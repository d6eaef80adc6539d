// Appended to a page: plays with everything on it, then writes what is wrong into a last element, `problems`.
window.addEventListener('load', () => {
  const problems = window.problems;
  const name = node => `${node.tagName.toLowerCase()} "${(node.textContent || node.alt || '').trim().slice(0, 40)}"`;

  // Everything is used once.
  for (const button of document.querySelectorAll('figure button')) button.click();
  for (const slider of document.querySelectorAll('figure input')) {
    slider.value = 0;
    slider.dispatchEvent(new Event('input'));
    const shown = [...slider.closest('figure').querySelectorAll('img')].filter(image => !image.hidden);
    if (shown.length !== 1) problems.push(`${shown.length} pictures of a slider are shown`);
    if (!slider.closest('figure').querySelector('figcaption').textContent.includes(shown[0].dataset.step)) {
      problems.push('a caption names another step than its picture');
    }
  }
  for (const figure of document.querySelectorAll('figure[data-points]')) {
    if (!Object.values(JSON.parse(figure.dataset.points).series).some(points => points.length)) continue;
    const svg = figure.querySelector('svg'), place = svg.getBoundingClientRect(), box = figure.querySelector('.values');
    for (const share of [0.02, 0.5, 0.98]) {
      const at = {clientX: place.left + share * place.width, clientY: place.top + 0.5 * place.height};
      svg.dispatchEvent(new PointerEvent('pointermove', at));
      if (!box || box.hidden || !/\d/.test(box.textContent)) problems.push(`no values under the pointer of ${name(figure)}`);
      const values = box.getBoundingClientRect();
      if (values.left < -1 || values.right > innerWidth + 1) problems.push(`values of ${name(figure)} leave the page`);
    }
    svg.dispatchEvent(new PointerEvent('pointerleave'));
    if (!box.hidden) problems.push('values stay when the pointer has left');
  }
  for (const details of document.querySelectorAll('details')) details.open = true;

  // Nothing is clipped.
  if (document.documentElement.scrollWidth > innerWidth) {
    problems.push(`the page is ${document.documentElement.scrollWidth} pixels wide, the window ${innerWidth}`);
  }
  for (const text of document.querySelectorAll('svg text')) {
    const inner = text.getBoundingClientRect(), outer = text.closest('svg').getBoundingClientRect();
    const wide = Math.max(outer.left - inner.left, inner.right - outer.right, outer.top - inner.top, inner.bottom - outer.bottom);
    if (wide > 0.5) problems.push(`${name(text)} leaves its drawing by ${wide.toFixed(1)} pixels`);
  }
  const labels = [...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll(':scope > g > text:not(.axis)')]);
  for (const row of labels) {
    const places = row.map(text => text.getBoundingClientRect());
    for (let i = 1; i < places.length; i++) {
      const [a, b] = [places[i - 1], places[i]];
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) {
        problems.push(`labels ${name(row[i - 1])} and ${name(row[i])} lie on one another`);
      }
    }
  }
  for (const node of document.querySelectorAll('h1, h2, h3, h4, p, td, th, figcaption, code, summary, button, img')) {
    const own = node.getBoundingClientRect(), around = node.closest('.scroll, .sides');
    const style = getComputedStyle(node);
    if (!around && own.width && (own.left < -0.5 || own.right > innerWidth + 0.5)) problems.push(`${name(node)} leaves the page`);
    if (style.overflow === 'hidden' && node.scrollWidth > node.clientWidth) problems.push(`${name(node)} is clipped`);
    if (node.tagName === 'IMG' && !node.hidden && !node.naturalWidth) problems.push(`${name(node)} is broken`);
  }

  // Text can be read: its contrast with what lies behind it is at least 4.5, that of large text and labels 3.
  const colour = text => (text.match(/[\d.]+/g) || []).map(Number);
  const light = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const rgb = colour(getComputedStyle(at).backgroundColor);
      if (rgb.length === 3 || rgb[3] > 0.5) return rgb;
    }
    return [255, 255, 255];
  };
  const seen = new Set();
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    if (!own || ['SCRIPT', 'STYLE', 'title'].includes(node.tagName)) continue;
    const style = getComputedStyle(node), drawn = node instanceof SVGElement;
    const [a, b] = [light(colour(drawn ? style.fill : style.color)), light(behind(node))].sort((p, q) => q - p);
    const contrast = (a + 0.05) / (b + 0.05);
    const kind = `${node.tagName} ${node.className.baseVal ?? node.className}`;
    if (contrast < (parseFloat(style.fontSize) > 20 || drawn ? 3 : 4.5) && !seen.has(kind)) {
      problems.push(`${name(node)} has a contrast of ${contrast.toFixed(2)}`);
      seen.add(kind);
    }
  }
  for (const line of document.querySelectorAll('polyline, figure circle, figcaption i')) {
    const style = getComputedStyle(line);
    const paint = line.tagName === 'I' ? style.backgroundColor : line.tagName === 'circle' ? style.fill : style.stroke;
    const [a, b] = [light(colour(paint)), light(behind(line.parentElement))].sort((p, q) => q - p);
    if ((a + 0.05) / (b + 0.05) < 3 && !seen.has(paint)) {
      problems.push(`a line of colour ${paint} has a contrast of ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
      seen.add(paint);
    }
  }
  const shown = document.createElement('pre');
  shown.id = 'problems';
  shown.textContent = JSON.stringify(problems);
  document.body.append(shown);
});
