// SPDX-License-Identifier: MIT
// The state of the page, and what changes it. A view draws only while it is in sight, and once per frame.

function start() {
  const state = {
    view: 'a',
    layer: -1,
    lane: -1,
    granularity: 'token',
    time: 0,
    selected: -1,
    measure: 'survival',
    playing: false,
  };

  let gone = {};
  const app = {
    state,
    a: null,
    b: null,
    nameOfB: '',
    loads: 0,
    common: 0,

    get trace() {
      return state.view === 'b' && app.b ? app.b : app.a;
    },
    get rows() {
      return app.trace.rows(state.layer, state.lane);
    },
    get starts() {
      return app.trace.once(`starts ${state.granularity}`, () => unitStarts(app.trace.pieces, state.granularity));
    },
    get unitOf() {
      return app.trace.once(`units ${state.granularity}`, () => unitOf(app.starts));
    },
    /// What was let go at the moment on the slider, in the scope.
    get gone() {
      const key = [app.traceId(), state.time, state.layer, state.lane].join();
      if (gone.key !== key) gone = {key, list: letGo(app.trace, state.time, state.layer, state.lane)};
      return gone.list;
    },
    traceId: () => (app.trace === app.b ? `b ${app.nameOfB} ${app.loads}` : 'a'),
    /// Whose numbers a view shows that cannot show a difference.
    whose: () =>
        (!app.b                  ? '' :
             app.trace === app.b ? 'Trace B. ' :
                                   'Trace A. '),
    unitText: (u) => app.trace.text(app.starts[u], app.starts[u + 1]),
    scopeName: () => (state.layer < 0 ? 'of the layers' : `in layer ${state.layer}`) +
        (state.lane < 0 ? '' : `, head ${state.lane}`),

    /// The unit of token j in one of the two traces, for what they share.
    heldIn(trace, j) {
      const n = Math.min(state.time, app.common - 1);
      const rows = trace.rows(state.layer, state.lane);
      return unitMean(app.starts, app.unitOf[j], n, (k) => trace.held(rows, k, n));
    },
    difference: (j) => (j < app.common ? app.heldIn(app.a, j) - app.heldIn(app.b, j) : NaN),

    set(change) {
      Object.assign(state, change);
      const {trace} = app;
      const layers = state.view === 'difference' ? Math.min(app.a.L, app.b.L) : trace.L;
      const lanes = state.view === 'difference' && app.a.H !== app.b.H ? 0 : trace.H;
      if (state.layer >= layers) state.layer = -1;
      if (state.lane >= lanes) state.lane = -1;
      state.time = Math.max(0, Math.min(trace.T - 1, Math.round(state.time)));
      if (state.selected >= trace.T) state.selected = -1;
      if ('view' in change || 'data' in change) fillChoices(layers, lanes);
      $('layer').value = state.layer;
      $('lane').value = state.lane;
      $('heat-measure').value = state.measure;
      for (const name of ['granularity', 'view'])
        document.querySelector(`[name="${name}"][value="${state[name]}"]`).checked = true;
      for (const key of Object.keys(change)) app.redraw(key);
    },
    setTime: (time) => app.set({time}),
    /// Stands on token j: the shades are then what it could see.
    select(j, layer = state.layer) {
      const last = app.starts[app.unitOf[j] + 1] - 1;
      app.set(
          {selected: last, time: last, playing: false, ...(state.layer >= 0 && layer !== state.layer ? {layer} : {})});
    },

    redraw(key, only) {
      for (const [name, view] of Object.entries(views))
        if (!only || only === name) {
          if (!view.pending.size) view.since = performance.now();
          view.pending.add(key);
        }
      frame ??= requestAnimationFrame(draw);
    },
  };

  // What one frame may spend on drawing; style, layout and paint take several times as long.
  const BUDGET = 1.5;  // ms
  let frame = null, waiting = [];
  const views = {};
  const bound = {
    text: textView(app),  // first: it asks for the layout, which the others then change
    clock: clockView(app),
    card: cardView(app),
    summary: summaryView(app),
    heat: heatView(app),
    triangle: triangleView(app),
    curves: curvesView(app),
    strings: tablesView(app),
  };
  const inSight = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries)
      for (const view of Object.values(views))
        if (view.element === target) view.visible = isIntersecting;
    frame ??= requestAnimationFrame(draw);
  }, {rootMargin: '150px'});
  for (const [name, {element, draw}] of Object.entries(bound)) {
    const always = name === 'clock' || name === 'summary';  // little to draw, and they set the state of buttons
    views[name] = {element, draw, pending: new Set(), visible: always || name === 'text' || name === 'card'};
    if (!always) inSight.observe(element);
  }

  function draw() {
    frame = null;
    const begin = performance.now();
    const behind = Object.values(views).filter((view) => view.visible && view.pending.size);
    for (const view of behind.sort((a, b) => a.since - b.since)) {
      if (performance.now() - begin > BUDGET) {
        frame = requestAnimationFrame(draw);  // those that wait are the first then
        break;
      }
      drawView(view);
    }
    if (frame === null) {
      for (const done of waiting) done();
      waiting = [];
    }
  }

  /// What is out of sight is drawn once, when there is time for it: the page then has its final height.
  function drawRest() {
    const view = Object.values(views).find((one) => !one.drawn && one.pending.size);
    if (!view) return;
    drawView(view);
    setTimeout(drawRest);
  }

  function drawView(view) {
    const changed = view.pending;
    view.pending = new Set();
    view.drawn = true;
    view.draw(changed);
  }

  function fillChoices(layers, lanes) {
    const options = (count, all) =>
        [element('option', {value: -1, text: all}),
         ...Array.from({length: count}, (_, i) => element('option', {value: i, text: String(i)}))];
    $('layer').replaceChildren(...options(layers, 'all'));
    $('lane').replaceChildren(...options(lanes, 'all'));
    $('lanes').hidden = lanes < 2;
  }

  function setB(json, name) {
    app.b = json === null ? null : new Trace(json);
    app.nameOfB = name;
    ++app.loads;
    app.common = app.b ? commonTokens(app.a, app.b) : 0;
    if (!app.b || (state.view === 'difference' && !app.common)) state.view = 'a';
    say(app.b && app.common < Math.max(app.a.T, app.b.T) ?
            `A and B share their first ${number(app.common)} tokens: A − B covers these.` :
            '');
    app.set({data: true, view: state.view});
    app.redraw('size');
  }

  const say = (text) => {
    $('message').textContent = text;
  };

  /// A trace, or a report that holds one.
  async function load(file) {
    try {
      const text = await file.text();
      const inside = text.match(/<script id="trace" type="application\/json">([^]*?)<\/script>/);
      setB(JSON.parse(inside ? inside[1] : text), file.name);
    } catch (error) {
      say(`${file.name} cannot be shown: ${error.message}`);
    }
  }

  // What the page is made from.
  const embedded = (id) => JSON.parse($(id).textContent);
  readPalette();
  app.a = new Trace(embedded('trace'));
  state.time = app.a.T - 1;
  $('trace').textContent = '';  // megabytes that are not read again
  app.set({data: true, view: 'a', time: state.time});
  const compare = embedded('compare');
  if (compare) setB(compare, '');
  requestAnimationFrame(() => setTimeout(drawRest, 50));

  // What the reader does.
  $('layer').addEventListener('change', (event) => app.set({layer: Number(event.target.value)}));
  $('lane').addEventListener('change', (event) => app.set({lane: Number(event.target.value)}));
  for (const name of ['granularity', 'view'])
    $(name).addEventListener('change', (event) => app.set({[name]: event.target.value}));
  $('open').addEventListener('click', () => $('file').click());
  $('remove').addEventListener('click', () => setB(null, ''));
  $('file').addEventListener('change', ({target}) => {
    if (target.files[0]) load(target.files[0]);
    target.value = '';
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    if (event.dataTransfer.files[0]) load(event.dataTransfer.files[0]);
  });

  const themes = ['auto', 'light', 'dark'];
  let theme = 'auto';
  function setTheme(name) {
    theme = name;
    $('theme').textContent = `Theme: ${name}`;
    if (name === 'auto')
      delete document.documentElement.dataset.theme;
    else
      document.documentElement.dataset.theme = name;
    readPalette();
    app.redraw('theme');
  }
  $('theme').addEventListener('click', () => setTheme(themes[(themes.indexOf(theme) + 1) % 3]));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(theme));
  $('keys').addEventListener('click', () => $('help').showModal());

  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;  // the text's own scroll height is no reason
    width = document.body.clientWidth;
    forgetWidths();
    app.redraw('size');
  }).observe(document.body);
  new ResizeObserver(() => app.redraw('scroll', 'text')).observe($('text'));  // taller: more of it is in sight

  const next = (list, value) => list[(list.indexOf(value) + 1) % list.length];
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
    const typing = event.target.closest('select, input[type="range"]');
    if (typing && !['t', 'Escape'].includes(event.key)) return;
    if (event.key === ' ' && event.target.closest('button, input')) return;
    const keys = {
      ' ': bound.clock.toggle,
      ',': () => app.setTime(state.time - 1),
      '.': () => app.setTime(state.time + 1),
      '[': () => app.set({layer: Math.max(-1, state.layer - 1)}),
      ']': () => app.set({layer: Math.min(app.trace.L - 1, state.layer + 1)}),
      g: () => app.set({granularity: next(['token', 'word', 'sentence'], state.granularity)}),
      v: () => {
        if (app.b) app.set({view: next(app.common ? ['a', 'b', 'difference'] : ['a', 'b'], state.view)});
      },
      t: () => $('theme').click(),
      '?': () => $('help').showModal(),
      Escape: () => app.set({selected: -1}),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  // The numbers behind the page, for tests and for the console.
  window.pith = {
    get state() {
      return {
        ...state,
        theme,
        tokens: app.trace.T,
        layers: app.trace.L,
        lanes: app.trace.H,
        common: app.common,
        compared: !!app.b
      };
    },
    set: app.set,
    setTime: app.setTime,
    select: (j) => app.select(j),
    load: (json, name = 'B') => setB(json, name),
    idle: () => new Promise((done) => {
      waiting.push(done);
      frame ??= requestAnimationFrame(draw);
    }),
    live: (layer = -1, lane = -1) => [...app.trace.live(layer, lane)],
    kept: (layer = -1, lane = -1) => app.trace.kept(layer, lane),
    held: (n = state.time) => Array.from({length: app.trace.T}, (_, j) => app.trace.held(app.rows, j, n)),
    shown: (n = state.time) => Array.from({length: app.trace.T}, (_, j) => bound.text.value(j, n)),
    difference: () => Array.from({length: app.trace.T}, (_, j) => app.difference(j)),
    /// [token, share of the lanes] of every token that query n can see in a layer.
    sees: (layer, n, lane = -1) =>
        Array.from({length: n + 1}, (_, j) => [j, app.trace.held(app.trace.rows(layer, lane), j, n)])
            .filter(([, share]) => share > 0),
    fate: (layer, lane, j) => app.trace.fate(layer, lane, j),
    letGo: (n) => letGo(app.trace, n, state.layer, state.lane),
    starts: () => [...app.starts],
    pass: (n) => app.trace.pass(n) ?? null,
    tables: () => bound.strings.tables(),
    classOf: (j) => bound.text.classes(j),
    heat: {drawn: bound.heat.drawn, range: bound.heat.range},
    curves: bound.curves.drawn,
    triangle: {
      drawn: bound.triangle.drawn,
      pixel: bound.triangle.pixel,
      xs: bound.triangle.xs,
      ys: bound.triangle.ys,
      layer: bound.triangle.layer
    },
    ramp: () => ({held: palette.ramp[255], dropped: palette.ramp[0], current: palette.current}),
    ready: new Promise((done) => waiting.push(done)).then(firstPicture),
  };
}

/// When what is in sight was first on the screen, in ms since the page was opened.
function firstPicture() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0)));
}

try {
  start();
} catch (error) {
  document.querySelector('main').hidden = $('bar').hidden = true;
  $('message').textContent = `This report cannot be shown: ${error.message}`;
  console.error(error);
}
