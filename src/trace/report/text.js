// SPDX-License-Identifier: MIT
// The running text, shaded by what is still held. It is ordinary text - fonts, right-to-left runs, search and screen
// readers work - laid out once; only the tokens in sight are ever repainted.

const LEVELS = 16;

function textView(app) {
  const box = $('text'), tip = $('tip');
  let spans = [], shown = [], tops = null, cursor = -1;

  function build() {
    const {trace} = app;
    // A block per paragraph, so that a change in one leaves the others alone; a block's last line break is its end.
    const paragraphs = [];
    let paragraph = null;
    spans = trace.pieces.map((piece, j) => {
      if (!paragraph) paragraphs.push(paragraph = element('div', {role: 'presentation'}));
      const span = document.createElement('span');
      span.id = `t${j}`;
      span.setAttribute('role', 'option');
      span.textContent = inText(piece);
      paragraph.append(span);
      if (piece.endsWith('\n')) paragraph = null;
      return span;
    });
    shown = new Array(trace.T).fill('');
    box.replaceChildren(...paragraphs);
    box.classList.toggle('short', trace.T < 400);
    tops = null;
    cursor = Math.min(cursor, trace.T - 1);
  }

  // Tops are read once per layout: asking again after each repaint would make the browser lay out the text anew.
  function lines() {
    tops ??= Int32Array.from(spans, (span) => span.offsetTop);
    return tops;
  }

  function firstBelow(y) {
    const all = lines();
    let lo = 0, hi = all.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (all[mid] < y)
        lo = mid + 1;
      else
        hi = mid;
    }
    return lo;
  }

  /// A token's value in the text: that of its unit. NaN = not read yet.
  function value(trace, j, n, rows) {
    return unitMean(app.starts, app.unitOf[j], n, (k) => trace.held(rows, k, n));
  }

  /// A function from token to class names, for the state as it is now.
  function classifier() {
    const {trace, state, rows, starts, unitOf} = app;
    const n = state.time;
    const share = (j) => trace.held(rows, j, n);
    const goneNow = new Set(app.gone.map(({position}) => position));
    const plain = state.granularity === 'token';
    const focused = document.activeElement === box ? cursor : -1;
    const chosen = state.selected >= 0 ? unitOf[state.selected] : -1;

    const shade = (j) => {
      if (j > n) return 't later';
      if (state.view === 'difference') {
        const d = app.difference(j);
        const level = Math.ceil(Math.abs(d) * 5 - 1e-9);
        return Number.isNaN(d) ? 't later' : level === 0 ? 't d0' : `t ${d > 0 ? 'p' : 'm'}${level}`;
      }
      // Only nothing is struck through and only everything has the full shade.
      const held = plain ? share(j) : unitMean(starts, unitOf[j], n, share);
      if (held === 0 || held === 1) return `t s${held * LEVELS}`;
      return `t s${Math.max(1, Math.min(LEVELS - 1, Math.round(held * LEVELS)))}`;
    };
    return (j) => {
      let name = shade(j);
      if (j <= n && goneNow.has(j)) name += ' gone-now';
      if (j === n) name += ' reading';
      if (unitOf[j] === chosen) name += ' selected';
      if (j === focused) name += ' cursor';
      if (j === trace.prompt && j > 0) name += ' generated-from';
      return name;
    };
  }

  function paint() {
    const margin = 60;
    const begin = Math.max(0, firstBelow(box.scrollTop - margin) - 1);
    const end = firstBelow(box.scrollTop + box.clientHeight + margin);
    const classOf = classifier();
    for (let j = begin; j < end; ++j) {
      const name = classOf(j);
      if (name === shown[j]) continue;
      spans[j].className = shown[j] = name;
    }
  }

  function reveal(j) {
    const top = lines()[j];
    const {scrollTop, clientHeight} = box;
    if (top < scrollTop + 12 || top > scrollTop + clientHeight - 48) box.scrollTop = top - clientHeight / 2;
  }

  function draw(changed) {
    if (changed.has('data') || changed.has('view'))
      if (box.dataset.of !== app.traceId()) {
        build();
        box.dataset.of = app.traceId();
      }
    if (changed.has('size')) tops = null;
    if (changed.has('time') && !changed.has('data')) reveal(app.state.time);
    paint();
    if (changed.has('selected')) {
      box.querySelectorAll('[aria-selected]').forEach((span) => span.removeAttribute('aria-selected'));
      spans[app.state.selected]?.setAttribute('aria-selected', 'true');
    }
  }

  const tokenAt = (target) => (/^t\d+$/.test(target?.id) ? Number(target.id.slice(1)) : -1);

  // The tip: the whole history of one unit, a line per layer.
  function showTip(j, x, y) {
    const {trace, state, starts, unitOf} = app;
    const [begin, end] = [starts[unitOf[j]], starts[unitOf[j] + 1]];
    const held = value(trace, j, state.time, app.rows);
    const where = end - begin > 1 ? `tokens ${number(begin)}–${number(end - 1)}` : `token ${number(j)}`;
    let now = `held by ${percent(held)} ${app.scopeName()} at token ${number(state.time)}`;
    if (state.view === 'difference')
      now = `held: A ${percent(app.heldIn(app.a, j))}, B ${percent(app.heldIn(app.b, j))}`;
    if (j > state.time) now = 'not read yet';
    tip.replaceChildren(
        element('strong', {}, label(trace.text(begin, end), 90)),
        element('p', {text: `${where} · ${now}`}));
    if (trace.L <= 48) {
      const layers = element('div', {class: 'layers'});
      layers.style.gridTemplateRows = `repeat(${Math.min(16, trace.L)}, auto)`;
      for (let l = 0; l < trace.L; ++l) layers.append(tipLine(trace, l, begin, end));
      tip.append(layers, element('p', {
                   class: 'caption',
                   text: 'layer · seen by so many later tokens · let go after · by or from · gate score'
                 }));
    }
    tip.hidden = false;
    const {width, height} = tip.getBoundingClientRect();
    const [right, bottom] = [document.documentElement.clientWidth - width - 8, window.innerHeight - height - 8];
    tip.style.left = `${Math.max(8, Math.min(x + 14, right))}px`;
    tip.style.top = `${y + 22 <= bottom ? y + 22 : Math.max(8, y - height - 14)}px`;
  }

  function tipLine(trace, layer, begin, end) {
    const told = story(trace, layer, app.state.lane, begin, end);
    const {after, by, score} = tellStory(trace, told);
    return element(
        'div', {}, element('span', {class: 'l', text: String(layer)}),
        lifeBar(lifeShare(trace, trace.rows(layer, app.state.lane), begin, end)),
        element('span', {class: 'u', text: after}), element('span', {}, by),
        element('span', {class: 's', text: score}));
  }

  const hideTip = () => {
    tip.hidden = true;
  };

  box.addEventListener('pointermove', (event) => {
    const j = tokenAt(event.target);
    if (j < 0 || event.pointerType === 'touch')
      hideTip();
    else
      showTip(j, event.clientX, event.clientY);
  });
  box.addEventListener('pointerleave', hideTip);
  box.addEventListener('scroll', () => {
    hideTip();
    app.redraw('scroll', 'text');
  }, {passive: true});
  box.addEventListener('click', (event) => {
    const j = tokenAt(event.target);
    if (j < 0) return;
    cursor = j;
    app.select(j);
  });

  function moveTo(j) {
    cursor = Math.max(0, Math.min(spans.length - 1, j));
    box.setAttribute('aria-activedescendant', `t${cursor}`);
    reveal(cursor);
    paint();
    const at = spans[cursor].getBoundingClientRect();
    showTip(cursor, at.left, at.bottom - 12);
  }

  /// The token of the next line that is nearest below, or above.
  function across(lineStep) {
    const all = lines(), from = spans[cursor], half = 14;
    let j = cursor;
    while (j >= 0 && j < all.length && Math.abs(all[j] - all[cursor]) < half) j += lineStep;
    if (j < 0 || j >= all.length) return cursor;
    let best = j;
    for (const line = all[j]; j >= 0 && j < all.length && Math.abs(all[j] - line) < half; j += lineStep)
      if (Math.abs(spans[j].offsetLeft - from.offsetLeft) < Math.abs(spans[best].offsetLeft - from.offsetLeft))
        best = j;
    return best;
  }

  box.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (cursor < 0) cursor = app.state.selected >= 0 ? app.state.selected : app.state.time;
    const u = app.unitOf[cursor];
    const moves = {
      ArrowLeft: () => moveTo(app.starts[Math.max(0, u - 1)]),
      ArrowRight: () => moveTo(Math.min(app.starts[u + 1], spans.length - 1)),
      ArrowUp: () => moveTo(across(-1)),
      ArrowDown: () => moveTo(across(1)),
      Home: () => moveTo(0),
      End: () => moveTo(spans.length - 1),
      Enter: () => app.select(cursor),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    moves[event.key]();
  });
  box.addEventListener('focus', () => {
    if (box.matches(':focus-visible')) {
      if (cursor < 0) cursor = app.state.time;
      paint();
    }
  });
  box.addEventListener('blur', () => {
    hideTip();
    paint();
  });

  function note() {
    const {layer, lane, view} = app.state;
    const now = 'at the moment on the slider.';
    if (view === 'difference') return `Shade and underline: the share that A still holds minus that of B, ${now}`;
    const head = lane < 0 ? '' : `, head ${lane}`;
    const both = lane < 0 && app.trace.H > 1 ? ' and heads' : head;
    if (layer < 0) return `${app.whose()}Shade: the share of layers${both} that still hold a token ${now}`;
    if (lane < 0 && app.trace.H > 1)
      return `${app.whose()}Shade: the share of heads in layer ${layer} that still hold a token ${now}`;
    return `${app.whose()}Shade: whether layer ${layer}${head} still holds a token ${now}`;
  }

  function legend() {
    const key = (name, sample, text) =>
        element('span', {class: 'key'}, element('span', {class: name, text: sample}), text);
    let what = app.state.layer < 0 ? 'layers' : '';
    if (!what && app.trace.H > 1 && app.state.lane < 0) what = 'heads of this layer';
    let keys = [key('t s16', 'word', 'still held'), key('t s0', 'word', 'dropped')];
    if (what)
      keys = [
        key('t s16', 'word', `held by all ${what}`), key('t s8', 'word', 'by half'), key('t s2', 'word', 'by few'),
        key('t s0', 'word', 'dropped by all')
      ];
    if (app.state.view === 'difference')
      keys = [
        key('t p5', 'word', 'A holds it, B does not'), key('t p2', 'word', 'A holds more'),
        key('t d0', 'word', 'the same'), key('t m2', 'word', 'B holds more'),
        key('t m5', 'word', 'B holds it, A does not')
      ];
    if (app.trace.prompt < app.trace.T) keys.push(key('generated-from', '', 'generated from here'));
    $('reading-note').textContent = note();
    $('legend').replaceChildren(
        ...keys, key('t gone-now', 'word', 'let go just now'), key('t reading', 'word', 'being read'),
        key('t later', 'word', 'not read yet'));
  }

  return {
    element: $('reading'),
    draw(changed) {
      draw(changed);
      if (['data', 'view', 'layer', 'lane'].some((key) => changed.has(key))) legend();
    },
    classes: (j) => {
      reveal(j);
      paint();
      return shown[j];
    },
    value: (j, n) => value(app.trace, j, n, app.rows),
  };
}
