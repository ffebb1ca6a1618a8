// SPDX-License-Identifier: MIT
// The selected token: what it could still see, and what became of it, per layer.

function scoreText(score) {
  if (score === null || !Number.isFinite(score)) return '';
  const small = score !== 0 && Math.abs(score) < 0.01;
  return (small ? String(Number(score.toPrecision(1))) : score.toFixed(2)).replaceAll('-', '−');
}

/// A layer's story in words. With a score the token decided the drop; without, a policy made room before it came.
function tellStory(trace, told) {
  if (!told.dropped) return {after: 'kept', by: '', score: ''};
  const after = `+${number(told.life)}`;
  const low = scoreText(told.lowest), high = scoreText(told.highest);
  const score = !told.scored ? '' : low === high ? low : `${low}…`;
  const part = told.dropped < told.rows ? `${told.dropped}/${told.rows} ` : '';
  const by = element('span');
  if (told.first !== told.last)
    by.append(`${part}${told.scored ? 'by' : 'from'} tokens ${number(told.first)}–${number(told.last)}`);
  else if (told.first >= trace.T)
    by.append(`${part}after the end`);
  else if (told.scored)
    by.append(`${part}by `, quoted(trace.text(told.first), 14));
  else
    by.append(`${part}from `, quoted(trace.text(told.first), 14), ' on');
  return {after, by, score};
}

/// The share of later tokens that could see tokens [begin, end), over the whole text.
function lifeShare(trace, rows, begin, end) {
  let seen = 0, asked = 0;
  for (let j = begin; j < end; ++j) {
    const part = trace.exposure(rows, j, trace.T - 1);
    seen += part.seen;
    asked += part.asked;
  }
  return asked ? seen / asked : 1;
}

function lifeBar(share) {
  const bar = element('span', {class: 'life', title: percent(share)}, element('b'));
  bar.firstChild.style.width = `${100 * share}%`;
  return bar;
}

function cardView(app) {
  const card = $('card');

  function draw() {
    const {trace, state, starts, unitOf} = app;
    const q = state.selected;
    if (q < 0) {
      card.replaceChildren(
          element('p', {
            class: 'empty',
            text: 'Choose a token: what it could still see is shown here, layer by layer, and what became of it.'
          }),
          element('p', {class: 'empty', text: 'The slider then stands on it, and the shades are what it saw.'}));
      return;
    }
    const [begin, end] = [starts[unitOf[q]], starts[unitOf[q] + 1]];
    const {logprob, entropy, tokens} = trace.meta;
    const facts = [end - begin > 1 ? `tokens ${number(begin)}–${number(end - 1)}` : `token ${number(q)}`];
    if (end - begin === 1) facts.push(`id ${tokens[q]}`);
    facts.push(q < trace.prompt ? 'given' : 'generated');
    if (typeof logprob[q] === 'number') facts.push(`log-probability ${scoreText(logprob[q])}`);
    if (typeof entropy[q] === 'number') facts.push(`entropy ${scoreText(entropy[q])}`);
    const strip = element('canvas', {role: 'img', 'aria-label': `Rows visible to token ${q}, per layer`});
    card.replaceChildren(
        element('h3', {}, label(trace.text(begin, end), 120)),
        element('p', {class: 'facts', text: facts.join(' · ')}), element('h4', {
          text: `What ${end - begin > 1 ? 'its last token' : 'it'} could see: tokens 0 to ${number(q)}, by layer`
        }),
        element('div', {}, strip), element('h4', {text: 'Layer by layer'}), table(trace, q, begin, end));
    drawStrip(strip, trace, q);
  }

  function drawStrip(canvas, trace, q) {
    const rowHeight = Math.max(3, Math.min(9, Math.floor(150 / trace.L)));
    const {context, width, height} = fit(canvas, rowHeight * trace.L);
    const columns = Math.min(q + 1, Math.floor(width));
    const edges = Int32Array.from({length: columns + 1}, (_, c) => Math.floor((c * (q + 1)) / columns));
    const grid = heatGrid(trace, app.state.lane, 'held', q, edges);
    drawGrid(context, grid, columns, trace.L, palette.ramp, shareIndex, {x: 0, y: 0, w: width, h: height});
  }

  function table(trace, q, begin, end) {
    const body = element('tbody');
    for (let l = 0; l < trace.L; ++l) {
      const {after, by, score} = tellStory(trace, story(trace, l, app.state.lane, begin, end));
      const rows = trace.rows(l, app.state.lane);
      const seen = trace.live(l, app.state.lane)[q] / rows.length;
      body.append(element(
          'tr', {class: l === app.state.layer ? 'here' : ''},
          element('td', {}, element('button', {
                    type: 'button',
                    text: String(l),
                    'aria-label': `Show layer ${l} alone`,
                    'aria-pressed': String(l === app.state.layer),
                    onclick: () => app.set({layer: l === app.state.layer ? -1 : l})
                  })),
          element('td', {class: 'n', text: Number.isInteger(seen) ? number(seen) : seen.toFixed(1)}),
          element('td', {}, lifeBar(seen / (q + 1))), element('td', {class: 'n', text: after}),
          element('td', {class: 'by'}, by), element('td', {class: 'n', text: score})));
    }
    return element(
        'table', {},
        element(
            'thead', {},
            element(
                'tr', {}, element('th', {text: 'layer'}),
                element('th', {class: 'n', colspan: '2', text: `it saw, of ${number(q + 1)}`}),
                element('th', {class: 'n', text: 'let go'}), element('th', {text: trace.score ? 'by' : ''}),
                element('th', {class: 'n', text: trace.score ? 'score' : ''}))),
        body);
  }

  const matters = ['data', 'view', 'selected', 'layer', 'lane', 'granularity', 'theme', 'size'];
  return {
    element: card,
    draw: (changed) => {
      if (matters.some((key) => changed.has(key))) draw();
    }
  };
}
