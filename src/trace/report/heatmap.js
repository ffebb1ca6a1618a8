// SPDX-License-Identifier: MIT
// Layer x token: how long every layer held every token, up to the moment on the slider.

function heatView(app) {
  const canvas = $('heat'), readout = $('heat-readout');
  const gutter = {left: 34, right: 52, bottom: 22};
  const xs = new Range(1);
  let cursor = null, drawn = null, box = {x: gutter.left, y: 0, w: 1, h: 1};

  const layers = () => (app.state.view === 'difference' ? Math.min(app.a.L, app.b.L) : app.trace.L);

  /// Units xs.lo … xs.hi in at most `most` columns: token boundaries of each.
  function columnEdges(most) {
    const columns = Math.max(1, Math.min(xs.span, most));
    return Int32Array.from({length: columns + 1}, (_, c) => app.starts[xs.lo + Math.floor((c * xs.span) / columns)]);
  }

  function values(edges) {
    const {state, trace} = app;
    if (state.view !== 'difference') return heatGrid(trace, state.lane, state.measure, state.time, edges);
    const n = Math.min(state.time, app.common - 1);
    const grid = heatGrid(app.a, state.lane, state.measure, n, edges);
    const other = heatGrid(app.b, state.lane, state.measure, n, edges);
    return grid.subarray(0, layers() * (edges.length - 1)).map((a, i) => a - other[i]);
  }

  function draw(changed) {
    const {trace, state} = app;
    const units = app.starts.length - 1;
    if (xs.size !== units) xs.resize(units);
    const L = layers();
    const rowHeight = Math.max(5, Math.min(22, Math.floor(330 / L)));
    const {context, width} = fit(canvas, rowHeight * L + gutter.bottom);
    box = {x: gutter.left, y: 0, w: width - gutter.left - gutter.right, h: rowHeight * L};
    const edges = columnEdges(Math.floor(box.w));
    const grid = values(edges);
    drawn = {edges, grid};
    const difference = state.view === 'difference';
    drawGrid(
        context, grid, edges.length - 1, L, difference ? palette.difference : palette.ramp,
        difference ? differenceIndex : shareIndex, box);

    // Layers on the left, what each kept on the right.
    const every = Math.ceil(14 / rowHeight);
    context.textAlign = 'right';
    for (let l = 0; l < L; l += every) {
      context.fillStyle = l === state.layer ? palette.ink : palette.muted;
      context.fillText(String(l), box.x - 8, (l + 0.5) * rowHeight);
      context.fillStyle = palette.muted;
      const kept = difference ? app.a.kept(l, state.lane) - app.b.kept(l, state.lane) : trace.kept(l, state.lane);
      context.fillText(
          `${difference && kept > 0 ? '+' : ''}${Math.round(100 * kept)} %`.replace('-', '−'), width,
          (l + 0.5) * rowHeight);
    }
    drawAxis(context);
    if (state.layer >= 0 && state.layer < L) {
      context.strokeStyle = palette.ink;
      context.lineWidth = 1.5;
      context.strokeRect(box.x, state.layer * rowHeight + 0.75, box.w, rowHeight - 1.5);
    }
    const x = (u) => box.x + ((u - xs.lo) / xs.span) * box.w;
    const column = (u, colour) => {
      if (u < xs.lo || u >= xs.hi) return;
      const w = Math.max(1.5, box.w / xs.span);
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.strokeRect(x(u), 0.75, w, box.h - 1.5);
    };
    column(app.unitOf[Math.min(state.time, app.unitOf.length - 1)], palette.muted);
    if (state.selected >= 0) column(app.unitOf[state.selected], palette.ink);
    if (cursor) {
      context.strokeStyle = palette.other;
      context.lineWidth = 2;
      const w = Math.max(4, box.w / xs.span);
      context.strokeRect(
          x(cursor.u) + Math.min(0, (box.w / xs.span - w) / 2), cursor.l * rowHeight + 1, w, rowHeight - 2);
    }
    tell();
    const shown = `${xs.lo} to ${xs.hi - 1} of ${units} ${state.granularity}s`;
    canvas.setAttribute('aria-label', `Survival map, ${L} layers, ${shown}. ${MAP_KEYS}`);
    if (['data', 'view', 'theme', 'measure'].some((key) => changed.has(key))) ramp(difference);
  }

  // Positions while tokens are narrow, their text once there is room.
  function drawAxis(context) {
    const cell = box.w / xs.span;
    context.fillStyle = palette.muted;
    context.textAlign = 'center';
    if (cell >= 40) {
      for (let u = xs.lo; u < xs.hi; ++u) {
        const most = Math.max(1, Math.floor(cell / 7.5));
        context.fillText(asLabel(app.unitText(u), most), box.x + (u - xs.lo + 0.5) * cell, box.h + 12, cell - 4);
      }
      return;
    }
    for (const u of ticks(xs.lo, xs.hi - 1, box.w / 90))
      context.fillText(
          number(u), Math.max(box.x + 8, Math.min(box.x + box.w - 12, box.x + (u - xs.lo + 0.5) * cell)), box.h + 12);
  }

  function tell() {
    if (!cursor) {
      readout.textContent =
          'Point at a cell, or walk with the arrow keys. On the right: the share of its context each layer kept.';
      return;
    }
    const {trace, state, starts} = app;
    const [begin, end] = [starts[cursor.u], starts[cursor.u + 1]];
    const text = quoted(app.unitText(cursor.u), 30);
    const said = [element('b', {text: `Layer ${cursor.l}`}), `, token ${number(begin)} `, element('b', {}, text), ': '];
    if (begin > state.time)
      said.push('not read yet.');
    else if (state.view === 'difference') {
      said.push(`A minus B ${scoreText(values(Int32Array.of(begin, end))[cursor.l])}.`);
    } else {
      const [value] = values(Int32Array.of(begin, end)).subarray(cursor.l);
      said.push(
          state.measure === 'held' ? `held ${percent(value)}. ` : `seen by ${percent(value)} of the tokens after it. `);
      const told = tellStory(trace, story(trace, cursor.l, state.lane, begin, end));
      said.push(
          told.after === 'kept' ? 'Never let go.' : `Let go after ${told.after.slice(1)} `, told.by,
          told.score ? `, score ${told.score}` : '');
    }
    readout.replaceChildren(...said);
  }

  function ramp(difference) {
    const now = app.state.measure === 'held';
    let [low, high] = now ? ['dropped', 'held'] : ['by none', 'by all'];
    if (difference) [low, high] = now ? ['B holds it', 'A holds it'] : ['B shows it to more', 'A shows it to more'];
    const bar = element('i');
    bar.style.background = gradient(difference ? palette.difference : palette.ramp);
    $('heat-ramp').replaceChildren(element('span', {}, low, bar, high), element('span', {text: 'blank: not read yet'}));
  }

  const changed = () => app.redraw('zoom', 'heat');
  const view = {
    element: canvas,
    draw,
    range: xs,
    drawn: () => ({edges: [...drawn.edges], values: [...drawn.grid]}),
  };
  explore(canvas, document.querySelector('.zoom[data-for="heat"]'), {
    xs,
    ys: null,
    box: () => box,
    changed,
    at: () => (cursor ? [(cursor.u + 0.5 - xs.lo) / xs.span, 0.5] : [0.5, 0.5]),
    hover(x, y) {
      const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
      cursor = inside ? {u: xs.lo + Math.floor(x * xs.span), l: Math.floor(y * layers())} : null;
      changed();
    },
    leave() {
      cursor = null;
      changed();
    },
    step(dx, dy) {
      cursor ??= {u: app.unitOf[app.state.time], l: 0};
      cursor.u = Math.max(0, Math.min(xs.size - 1, cursor.u + dx));
      cursor.l = Math.max(0, Math.min(layers() - 1, cursor.l + dy));
      xs.show(cursor.u);
      changed();
    },
    pick() {
      if (cursor) app.select(app.starts[cursor.u + 1] - 1, cursor.l);
    },
  });
  $('heat-measure').addEventListener('change', (event) => app.set({measure: event.target.value}));
  return view;
}
