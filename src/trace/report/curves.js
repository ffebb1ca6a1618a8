// SPDX-License-Identifier: MIT
// Live rows and bytes over time, against a cache that drops nothing.

/// Draws series over tokens 0 … T-1: { colour, dash, xs (or null: every token), ys, dots }; `key` tells them from
/// others.
function chart(canvas, key, series, T, time, format) {
  const {context, width} = fit(canvas, 220);
  const box = {x: 58, y: 8, w: width - 58 - 10, h: 220 - 8 - 26};
  const top = Math.max(1e-9, ...series.map(({most}) => most));
  const power = 10 ** Math.floor(Math.log10(top / 4));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s * 5 >= top);
  const X = (n) => box.x + (T > 1 ? n / (T - 1) : 0.5) * box.w;
  const Y = (y) => box.y + box.h * (1 - y / top);

  still(canvas, context, key, () => {
    context.lineWidth = 1;
    context.strokeStyle = palette.line;
    context.fillStyle = palette.muted;
    context.textAlign = 'right';
    for (let y = 0; y <= top * 1.0001; y += step) {
      context.beginPath();
      context.moveTo(box.x, Math.round(Y(y)) + 0.5);
      context.lineTo(box.x + box.w, Math.round(Y(y)) + 0.5);
      context.stroke();
      context.fillText(format(y), box.x - 8, Y(y));
    }
    context.textAlign = 'center';
    for (const n of ticks(0, T - 1, box.w / 90))
      context.fillText(number(n), Math.min(X(n), width - 16), box.y + box.h + 15);

    for (const {colour, dash, xs, ys, dots} of series) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = 1.8;
      context.lineJoin = 'round';
      context.setLineDash(dash);
      context.beginPath();
      const count = ys.length;
      if (count > 2 * box.w) {
        // More points than pixels: the lowest and highest of each stretch, in their order.
        const columns = Math.floor(box.w);
        for (let c = 0; c < columns; ++c) {
          const begin = Math.floor((c * count) / columns),
                end = Math.max(begin + 1, Math.floor(((c + 1) * count) / columns));
          let low = begin, high = begin;
          for (let n = begin; n < end; ++n) {
            if (ys[n] < ys[low]) low = n;
            if (ys[n] > ys[high]) high = n;
          }
          for (const i of [Math.min(low, high), Math.max(low, high)]) context.lineTo(X(xs ? xs[i] : i), Y(ys[i]));
        }
      } else {
        for (let i = 0; i < count; ++i) context.lineTo(X(xs ? xs[i] : i), Y(ys[i]));
      }
      context.stroke();
      context.setLineDash([]);
      if (dots || count === 1)
        for (let i = 0; i < count; ++i) {
          context.beginPath();
          context.arc(X(xs ? xs[i] : i), Y(ys[i]), 3, 0, 7);
          context.fill();
        }
    }
  });
  context.strokeStyle = palette.muted;
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.beginPath();
  context.moveTo(X(time), box.y);
  context.lineTo(X(time), box.y + box.h);
  context.stroke();
  context.setLineDash([]);
  return (x) => Math.round(((x - box.x) / box.w) * (T - 1));
}

const line = (ys, xs = null) => ({xs, ys, most: ys.reduce((most, y) => Math.max(most, y), 0)});

/// Mean rows per layer and head that each query sees.
const liveMean = (trace, layer, lane) => trace.once(
    `mean ${layer} ${lane}`,
    () => line(Float64Array.from(trace.live(layer, lane), (rows) => rows / trace.rows(layer, lane).length)));

/// What a dense cache shows each of `T` queries.
const causal = (trace, T) => trace.once(`causal ${T}`, () => line(Float64Array.from({length: T}, (_, n) => n + 1)));

/// Bytes of the pages in use after each pass, at its last token: a point per pass, and nothing in between.
const pageBytes = (trace) => trace.once(
    'page bytes',
    () => line(trace.meta.passes.map((pass) => pass.kv_bytes), trace.meta.passes.map(({next}) => next - 1)));

/// Bytes of a dense cache: the first and last token of every page.
const denseBytes = (trace) => trace.once('dense bytes', () => {
  const step = trace.meta.page_rows;
  const xs = Array.from(
      {length: Math.ceil(trace.T / step) * 2}, (_, i) => Math.min(trace.T - 1, (i >> 1) * step + (i & 1) * (step - 1)));
  return line(xs.map((n) => trace.denseBytes(n + 1)), xs);
});

function passName(pass) {
  if (!pass) return '';
  const tokens = pass.next - pass.first > 1 ? `tokens ${number(pass.first)}–${number(pass.next - 1)}` :
                                              `token ${number(pass.first)}`;
  return `after the pass of ${tokens}`;
}

function curvesView(app) {
  const keyOf = (id, entries) => $(id).replaceChildren(...entries.map(({colour, dash, name, value}) => {
    const stroke = element('i', {class: 'stroke'});
    stroke.style.borderTopColor = colour;
    stroke.style.borderTopStyle = dash.length ? (dash[0] > 3 ? 'dashed' : 'dotted') : 'solid';
    return element('span', {}, stroke, name, value === undefined ? '' : ` ${value}`);
  }));
  const timeAt = {};
  const shown = {rows: [], bytes: []};

  function draw() {
    const {a, b, state} = app;
    const {layer, lane, time} = state;
    const T = Math.max(a.T, b?.T ?? 0);
    const traces = [{trace: a, name: b ? 'A' : 'kept', colour: palette.accent, dash: []}];
    if (b) traces.push({trace: b, name: 'B', colour: palette.other, dash: [7, 4]});
    const usable = ({trace}) => layer < trace.L && lane < trace.H;
    const dense = {colour: palette.faint, dash: [2, 3], name: 'dense'};

    const key = [app.loads, layer, lane, palette.version].join();

    const rows = [
      {...dense, ...causal(a, T), value: number(time + 1)}, ...traces.filter(usable).map(({trace, ...look}) => {
        const {ys, ...rest} = liveMean(trace, layer, lane);
        return {...look, ...rest, ys, value: time < trace.T ? number(ys[time]) : '–'};
      })
    ];
    shown.rows = rows;
    timeAt.rows = chart($('rows'), key, rows, T, time, number);
    keyOf('rows-key', [...rows, {colour: palette.muted, dash: [4, 3], name: `at token ${number(time)}`}]);
    $('rows-title').textContent =
        layer < 0 ? 'Rows a query sees, mean over layers' : `Rows a query sees in layer ${layer}`;

    const valueOf = (trace, what) => (trace.pass(time) ? bytes(trace.pass(time)[what]) : '–');
    const memory = [];
    for (const {trace} of traces)
      if (trace === a || trace.denseBytes(a.T) !== a.denseBytes(a.T))
        memory.push({
          ...dense,
          ...denseBytes(trace),
          name: trace === a ? 'dense' : 'dense, stored as B',
          value: valueOf(trace, 'dense')
        });
    for (const {trace, name, ...look} of traces)
      memory.push({
        ...look,
        ...pageBytes(trace),
        dots: trace.meta.passes.length < 40,
        name: b ? name : 'pages in use',
        value: valueOf(trace, 'kv_bytes')
      });
    shown.bytes = memory;
    timeAt.bytes = chart($('bytes'), key, memory, T, time, bytes);
    keyOf('bytes-key', [...memory, {colour: palette.muted, dash: [4, 3], name: passName(a.pass(time))}]);
    for (const id of ['rows', 'bytes']) $(id).setAttribute('aria-label', $(`${id}-key`).textContent);
  }

  for (const id of ['rows', 'bytes'])
    $(id).addEventListener('click', (event) => app.setTime(timeAt[id](event.offsetX)));
  /// The points of every curve as drawn, [token, value].
  const points = (list) =>
      list.map(({name, xs, ys}) => ({name, points: Array.from(ys, (y, i) => [xs ? xs[i] : i, y])}));
  return {element: $('curves'), draw, drawn: () => ({rows: points(shown.rows), bytes: points(shown.bytes)})};
}
