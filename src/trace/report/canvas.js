// SPDX-License-Identifier: MIT
// What all drawings share: colours taken from the style sheet, sharp canvases, axes, and windows one can zoom.

const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'text')
      made.textContent = value;
    else if (name.startsWith('on'))
      made.addEventListener(name.slice(2), value);
    else if (value !== undefined)
      made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/// The text of a token as a label: isolated, so that right-to-left text does not turn its surroundings.
const label = (text, most) => element('bdi', {text: asLabel(text, most)});
/// The same within a sentence, in quotation marks.
const quoted = (text, most) => element('bdi', {class: 'quoted', text: asLabel(text, most)});

let palette = null;

/// Reads the colours of the theme in force; called again when it changes.
function readPalette() {
  const probe = document.body.appendChild(element('i', {hidden: ''}));
  const rgb = (name) => {
    probe.style.color = `var(--${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    return [r, g, b];
  };
  const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
  const colours = {font: `12px ${getComputedStyle(document.body).fontFamily}`, version: (palette?.version ?? 0) + 1};
  for (const name of ['page', 'panel', 'ink', 'muted', 'faint', 'line', 'accent', 'other'])
    colours[name] = css(rgb(name));
  const [low, mid, high, other, accent] = ['ramp-low', 'ramp-mid', 'ramp-high', 'other', 'accent'].map(rgb);
  probe.remove();
  // Lightness only ever goes one way along the ramp, so it reads in grey and for every kind of colour vision.
  colours.ramp = lookup([low, mid, high]);
  colours.difference = lookup([other, low, accent]);
  colours.current = pixel(other);
  palette = colours;
}

const pixel = ([r, g, b]) => ((255 << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;

/// 256 pixels along the stops.
function lookup(stops) {
  return Uint32Array.from({length: 256}, (_, i) => {
    const x = (i / 255) * (stops.length - 1);
    const k = Math.min(Math.floor(x), stops.length - 2);
    return pixel(stops[k].map((c, channel) => c + (stops[k + 1][channel] - c) * (x - k)));
  });
}

const gradient = (table) =>
    `linear-gradient(to right, ${[0, 64, 128, 192, 255].map((i) => cssOf(table[i])).join(', ')})`;
const cssOf = (value) => `rgb(${value & 255} ${(value >> 8) & 255} ${(value >> 16) & 255})`;

// Asking for a width makes the browser lay out the page: asked once, until the page changes its size.
let widths = new WeakMap();
const forgetWidths = () => {
  widths = new WeakMap();
};

function widthOf(canvas) {
  let width = widths.get(canvas);
  if (!width) widths.set(canvas, width = Math.max(120, Math.floor(canvas.parentElement.clientWidth)));
  return width;
}

// Setting a font, even the same one, makes the browser work out the styles of the whole page.
const fonts = new WeakMap();

/// Sizes the canvas to its box, sharp on this screen; returns a context in CSS pixels.
function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = widthOf(canvas);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
    fonts.delete(canvas);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  if (fonts.get(canvas) !== palette.version) {
    context.font = palette.font;
    context.textBaseline = 'middle';
    fonts.set(canvas, palette.version);
  }
  return {context, width, height};
}

/// Draws what does not change with the slider: anew only if `key` is another one, else from a copy.
const stills = new WeakMap();
function still(canvas, context, key, paint) {
  const old = stills.get(canvas);
  const {width, height} = canvas;
  if (old?.key !== key || old.copy.width !== width || old.copy.height !== height) {
    paint();
    const copy = new OffscreenCanvas(width, height);
    copy.getContext('2d').drawImage(canvas, 0, 0);
    stills.set(canvas, {key, copy});
    return;
  }
  context.save();
  context.resetTransform();
  context.drawImage(old.copy, 0, 0);
  context.restore();
}

/// Draws a grid of values [rows][columns] into a box, cell by cell, with the colours of `table`.
function drawGrid(context, grid, columns, rows, table, toIndex, box, mark) {
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < grid.length; ++i)
    if (!Number.isNaN(grid[i])) pixels[i] = table[toIndex(grid[i])];
  mark?.(pixels);
  const small = new OffscreenCanvas(columns, rows);
  small.getContext('2d').putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, columns, rows, box.x, box.y, box.w, box.h);
}

const shareIndex = (x) => Math.round(255 * x);
const differenceIndex = (x) => Math.round(127.5 * (x + 1));

/// Round numbers from lo to hi, about `count` of them; whole ones, as tokens are counted.
function ticks(lo, hi, count) {
  const rough = Math.max(1, (hi - lo) / Math.max(1, count));
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const marks = [];
  for (let x = Math.ceil(lo / step) * step; x <= hi; x += step) marks.push(x);
  return marks;
}

/// The whole numbers [lo, hi) one looks at, out of [0, size).
class Range {
  constructor(size) {
    this.resize(size);
  }
  resize(size) {
    this.size = size;
    this.lo = 0;
    this.hi = size;
  }
  get span() {
    return this.hi - this.lo;
  }
  get whole() {
    return this.span === this.size;
  }
  place(lo, span) {
    span = Math.max(Math.min(8, this.size), Math.min(this.size, Math.round(span)));
    this.lo = Math.max(0, Math.min(this.size - span, Math.round(lo)));
    this.hi = this.lo + span;
  }
  zoom(factor, at = (this.lo + this.hi) / 2) {
    let span = Math.round(this.span / factor);
    if (span === this.span) span += factor > 1 ? -1 : 1;
    this.place(at - ((at - this.lo) * span) / this.span, span);
  }
  pan(by) {
    this.place(this.lo + by, this.span);
  }
  show(x) {
    if (x < this.lo)
      this.pan(x - this.lo);
    else if (x >= this.hi)
      this.pan(x - this.hi + 1);
  }
}

const MAP_KEYS = 'Arrow keys move, plus and minus zoom.';

/// Lets a canvas be zoomed and walked over: wheel, drag, pinch, double click, keys, and the buttons beside it.
/// map: { xs, ys (or null), box(), changed(), hover(x, y) with plot coordinates 0..1, leave(), step(dx, dy), pick() }
function explore(canvas, buttons, map) {
  const ranges = () => [map.xs, map.ys].filter(Boolean);
  const inPlot = (event) => {
    const frame = canvas.getBoundingClientRect();
    const box = map.box();
    return [(event.clientX - frame.left - box.x) / box.w, (event.clientY - frame.top - box.y) / box.h];
  };
  const zoom = (factor, x = 0.5, y = 0.5) => {
    map.xs.zoom(factor, map.xs.lo + x * map.xs.span);
    map.ys?.zoom(factor, map.ys.lo + y * map.ys.span);
    map.changed();
  };
  const all = () => {
    for (const range of ranges()) range.place(0, range.size);
    map.changed();
  };
  const pan = (dx, dy) => {
    map.xs.pan(Math.round(dx * map.xs.span));
    map.ys?.pan(Math.round(dy * map.ys.span));
    map.changed();
  };

  canvas.addEventListener('wheel', (event) => {
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (event.ctrlKey || event.metaKey)
      zoom(Math.exp(-event.deltaY / 200), ...inPlot(event));
    else if (sideways && !map.xs.whole)
      pan((event.deltaX || event.deltaY) / 600, 0);
    else
      return;  // the page scrolls
    event.preventDefault();
  }, {passive: false});

  const fingers = new Map();
  let moved = false, last = null;
  canvas.addEventListener('pointerdown', (event) => {
    fingers.set(event.pointerId, event);
    moved = false;
    last = {x: event.clientX, y: event.clientY, gap: 0, restX: 0, restY: 0};
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!fingers.has(event.pointerId)) return map.hover(...inPlot(event), event);
    fingers.set(event.pointerId, event);
    if (fingers.size === 2) {
      const [p, q] = [...fingers.values()];
      const gap = Math.hypot(p.clientX - q.clientX, p.clientY - q.clientY);
      const [px, py] = inPlot(p), [qx, qy] = inPlot(q);
      if (last.gap && Math.abs(gap / last.gap - 1) > 0.04)
        zoom(gap / last.gap, (px + qx) / 2, (py + qy) / 2);
      else if (last.gap)
        return;
      last.gap = gap;
      moved = true;
      return;
    }
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    if (!moved && Math.hypot(dx, dy) < 5) return;
    if (!moved) canvas.setPointerCapture(event.pointerId);
    moved = true;
    // Ranges move by whole tokens: what is left of a move waits for the next.
    const box = map.box();
    const x = last.restX - (dx / box.w) * map.xs.span, y = map.ys ? last.restY - (dy / box.h) * map.ys.span : 0;
    map.xs.pan(Math.trunc(x));
    map.ys?.pan(Math.trunc(y));
    last = {...last, x: event.clientX, y: event.clientY, restX: x - Math.trunc(x), restY: y - Math.trunc(y)};
    map.changed();
  });
  const lift = (event) => {
    const down = fingers.delete(event.pointerId);
    if (down && !moved && event.type === 'pointerup') {
      map.hover(...inPlot(event), event);
      map.pick();
    }
  };
  canvas.addEventListener('pointerup', lift);
  canvas.addEventListener('pointercancel', lift);
  canvas.addEventListener('pointerleave', () => {
    if (!fingers.size) map.leave();
  });
  canvas.addEventListener('dblclick', (event) => zoom(3, ...inPlot(event)));
  canvas.addEventListener('blur', () => map.leave());

  canvas.addEventListener('keydown', (event) => {
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrows && event.shiftKey)
      pan(arrows[0] / 4, arrows[1] / 4);
    else if (arrows)
      map.step(...arrows);
    else if (event.key === '+' || event.key === '=')
      zoom(1.6, ...map.at());
    else if (event.key === '-')
      zoom(1 / 1.6, ...map.at());
    else if (event.key === '0')
      all();
    else if (event.key === 'Enter')
      map.pick();
    else
      return;
    event.preventDefault();
    event.stopPropagation();
  });

  buttons.append(
      element('button', {type: 'button', 'aria-label': 'Zoom out', text: '−', onclick: () => zoom(1 / 1.6)}),
      element('button', {type: 'button', 'aria-label': 'Zoom in', text: '+', onclick: () => zoom(1.6)}),
      element('button', {type: 'button', 'aria-label': 'Show all', text: 'All', onclick: all}));
}
