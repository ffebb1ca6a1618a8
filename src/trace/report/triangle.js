// SPDX-License-Identifier: MIT
// The triangular map of one layer: every query (downwards) against every token it could see (across).

function triangleView(app) {
  const canvas = $('triangle'), readout = $('triangle-readout'), thumbs = $('thumbs');
  const gutter = {left: 48, bottom: 24};
  const xs = new Range(1), ys = new Range(1);
  let cursor = null, drawn = null, box = {x: gutter.left, y: 0, w: 1, h: 1};

  // Over all layers the map would be a mean of means. Without a choice it shows the layer that is nearest to keeping
  // half: one that keeps all, or only what is recent, shows little.
  const telling = (trace) => trace.once('telling layer', () => {
    const distance = Array.from({length: trace.L}, (_, l) => Math.abs(trace.kept(l) - 0.5));
    return distance.indexOf(Math.min(...distance));
  });
  const layer = () => (app.state.layer < 0 ? telling(app.trace) : Math.min(app.state.layer, app.trace.L - 1));

  /// Pixels of the current tokens, which lie on the diagonal.
  const diagonal = (queries, W, {j0, j1}) => (pixels) => queries.forEach((n, r) => {
    if (n >= j0 && n < j1) pixels[r * W + Math.floor(((n - j0) * W) / (j1 - j0))] = palette.current;
  });

  function draw(changed) {
    const {trace, state} = app;
    if (xs.size !== trace.T) {
      xs.resize(trace.T);
      ys.resize(trace.T);
    }
    const side = Math.min(widthOf(canvas) - gutter.left, 640);
    const {context, width} = fit(canvas, side + gutter.bottom);
    box = {x: gutter.left, y: 0, w: Math.min(side, width - gutter.left), h: side};
    const [W, H] = [Math.min(xs.span, Math.floor(box.w)), Math.min(ys.span, Math.floor(box.h))];
    const at = {j0: xs.lo, j1: xs.hi, n0: ys.lo, n1: ys.hi};
    const key = [app.traceId(), layer(), state.lane, ...Object.values(at), palette.version].join();
    still(canvas, context, key, () => {
      const {grid, queries} = triangleGrid(trace, trace.rows(layer(), state.lane), at, W, H);
      drawn = {at, W, H, grid, queries};
      drawGrid(context, grid, W, H, palette.ramp, shareIndex, box, diagonal(queries, W, at));
      drawAxes(context);
    });

    const lineY = box.y + ((state.time + 0.5 - ys.lo) / ys.span) * box.h;
    if (lineY >= box.y && lineY <= box.y + box.h) line(context, box.x, lineY, box.x + box.w, lineY, palette.muted);
    if (state.selected >= xs.lo && state.selected < xs.hi) {
      const x = box.x + ((state.selected + 0.5 - xs.lo) / xs.span) * box.w;
      line(context, x, box.y, x, box.y + box.h, palette.ink);
    }
    if (cursor) {
      const [w, h] = [Math.max(5, box.w / xs.span), Math.max(5, box.h / ys.span)];
      context.strokeStyle = palette.other;
      context.lineWidth = 2;
      context.strokeRect(
          box.x + ((cursor.j + 0.5 - xs.lo) / xs.span) * box.w - w / 2,
          box.y + ((cursor.n + 0.5 - ys.lo) / ys.span) * box.h - h / 2, w, h);
    }
    tell();
    canvas.setAttribute(
        'aria-label',
        `Layer ${layer()}: tokens ${xs.lo} to ${xs.hi - 1}, queries ${ys.lo} to ${ys.hi - 1}. ${MAP_KEYS}`);
    if (['data', 'view', 'layer', 'theme'].some((key) => changed.has(key))) {
      $('sight-note').textContent =
          `${app.whose()}Layer ${layer()}. Each row is a token being read, each column a token it could look back at.`;
      ramp();
    }
    if (['data', 'view', 'theme', 'lane', 'size'].some((key) => changed.has(key))) drawThumbs();
    for (const [l, button] of [...thumbs.children].entries())
      button.setAttribute('aria-pressed', String(l === layer()));
  }

  function line(context, x0, y0, x1, y1, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
    context.setLineDash([]);
  }

  function drawAxes(context) {
    const {trace} = app;
    const [cellX, cellY] = [box.w / xs.span, box.h / ys.span];
    context.fillStyle = palette.muted;
    context.textAlign = 'center';
    if (cellX >= 40) {
      for (let j = xs.lo; j < xs.hi; ++j)
        context.fillText(
            asLabel(trace.text(j), Math.floor(cellX / 7.5)), box.x + (j - xs.lo + 0.5) * cellX, box.h + 13,
            cellX - 4);
    } else {
      for (const j of ticks(xs.lo, xs.hi - 1, box.w / 90))
        context.fillText(
            number(j), Math.max(box.x + 4, Math.min(box.x + box.w - 14, box.x + (j - xs.lo + 0.5) * cellX)),
            box.h + 13);
    }
    context.textAlign = 'right';
    if (cellY >= 18) {
      for (let n = ys.lo; n < ys.hi; ++n)
        context.fillText(asLabel(trace.text(n), 6), box.x - 6, box.y + (n - ys.lo + 0.5) * cellY, gutter.left - 8);
    } else {
      for (const n of ticks(ys.lo, ys.hi - 1, box.h / 60))
        context.fillText(number(n), box.x - 6, Math.max(8, Math.min(box.h - 8, box.y + (n - ys.lo + 0.5) * cellY)));
    }
  }

  function tell() {
    if (!cursor) {
      readout.textContent = 'Point at a cell, or walk with the arrow keys. The dashed row is the token on the slider.';
      return;
    }
    const {trace, state} = app;
    const {j, n} = cursor;
    const name = (i) => element('b', {}, `${number(i)} `, quoted(trace.text(i), 20));
    if (j > n) return readout.replaceChildren('Token ', name(j), ' comes after ', name(n), '.');
    if (j === n) return readout.replaceChildren('Token ', name(n), ' itself.');
    const rows = trace.rows(layer(), state.lane);
    const holders = trace.holders(rows, j, n);
    const sees = holders === rows.length ? ' could see ' :
        holders                          ? ` could see in ${holders} of ${rows.length} heads ` :
                                           ' could not see ';
    const told = tellStory(trace, story(trace, layer(), state.lane, j, j + 1));
    readout.replaceChildren(
        'Token ', name(n), sees, name(j),
        told.after === 'kept' ? ', never let go.' : `, let go after ${told.after.slice(1)} `, told.by,
        told.score ? `, score ${told.score}.` : '');
  }

  function drawThumbs() {
    const {trace, state} = app;
    if (thumbs.children.length !== trace.L)
      thumbs.replaceChildren(...Array.from(
          {length: trace.L},
          (_, l) => element(
              'button', {type: 'button', onclick: () => app.set({layer: l})},
              element('canvas', {'aria-hidden': 'true'}), element('span'))));
    const side = Math.min(trace.T, 120);
    const at = {j0: 0, j1: trace.T, n0: 0, n1: trace.T};
    for (const [l, button] of [...thumbs.children].entries()) {
      const [small, caption] = button.children;
      const {grid, queries} = triangleGrid(trace, trace.rows(l, state.lane), at, side, side);
      small.width = small.height = side;
      drawGrid(
          small.getContext('2d'), grid, side, side, palette.ramp, shareIndex, {x: 0, y: 0, w: side, h: side},
          diagonal(queries, side, at));
      caption.textContent = `${l} · ${percent(trace.kept(l, state.lane))}`;
      button.setAttribute('aria-label', `Layer ${l}, keeps ${percent(trace.kept(l, state.lane))} of its context`);
    }
  }

  function ramp() {
    const swatch = (colour, text) => {
      const i = element('i', {class: 'swatch'});
      i.style.background = colour;
      return element('span', {}, i, text);
    };
    $('triangle-ramp')
        .replaceChildren(
            swatch(palette.other, 'current'), swatch(cssOf(palette.ramp[255]), 'can be attended to: still held'),
            swatch(cssOf(palette.ramp[0]), 'masked: dropped before'),
            element('span', {text: 'between: part of the cell'}));
  }

  const changed = () => app.redraw('zoom', 'triangle');
  explore(canvas, document.querySelector('.zoom[data-for="triangle"]'), {
    xs,
    ys,
    box: () => box,
    changed,
    at: () => (cursor ? [(cursor.j + 0.5 - xs.lo) / xs.span, (cursor.n + 0.5 - ys.lo) / ys.span] : [0.5, 0.5]),
    hover(x, y) {
      const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
      cursor = inside ? {j: xs.lo + Math.floor(x * xs.span), n: ys.lo + Math.floor(y * ys.span)} : null;
      changed();
    },
    leave() {
      cursor = null;
      changed();
    },
    step(dx, dy) {
      cursor ??= {j: 0, n: app.state.time};
      cursor.j = Math.max(0, Math.min(xs.size - 1, cursor.j + dx));
      cursor.n = Math.max(0, Math.min(ys.size - 1, cursor.n + dy));
      xs.show(cursor.j);
      ys.show(cursor.n);
      changed();
    },
    pick() {
      if (cursor) app.select(cursor.n);
    },
  });
  return {
    element: $('sight'),
    draw,
    xs,
    ys,
    layer,
    drawn: () => ({...drawn.at, W: drawn.W, H: drawn.H, queries: [...drawn.queries], values: [...drawn.grid]}),
    /// The pixel in the middle of the cell of token j and query n, as drawn.
    pixel(j, n) {
      const ratio = window.devicePixelRatio || 1;
      const x = Math.floor((box.x + ((j + 0.5 - xs.lo) / xs.span) * box.w) * ratio);
      const y = Math.floor((box.y + ((n + 0.5 - ys.lo) / ys.span) * box.h) * ratio);
      return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data];
    },
  };
}
