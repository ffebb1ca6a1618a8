// SPDX-License-Identifier: MIT
// Which strings are kept, and which are forgotten first.

function tablesView(app) {
  const most = 12;
  let tables = {mostKept: [], firstForgotten: []};

  function compute() {
    const {trace, state} = app;
    const least = Number($('occurs').value);
    const all = app.trace.once(
        `strings ${state.granularity} ${state.layer} ${state.lane}`, () => stringTable(trace, app.starts, app.rows));
    const common = all.filter(({count}) => count >= least);
    tables = {mostKept: common.slice(0, most), firstForgotten: firstForgotten(common).slice(0, most)};
  }

  function fill(table, entries, empty) {
    const horizon = horizonOf(app.trace);
    if (!entries.length) return table.replaceChildren(element('tr', {}, element('td', {text: empty})));
    const line = ({text, count, kept, life, first}) => element(
        'tr', {},
        element(
            'td', {},
            element(
                'button', {
                  type: 'button',
                  title: `Go to token ${first}`,
                  onclick: () => {
                    app.select(first);
                    $('reading').scrollIntoView();
                  }
                },
                label(text, 60))),
        element('td', {text: number(count)}),
        element('td', {}, lifeBar(kept), element('span', {class: 'share', text: percent(kept)})),
        element('td', {text: life > horizon ? `>${number(horizon)}` : number(life)}));
    table.replaceChildren(
        element(
            'thead', {},
            element(
                'tr', {}, element('th', {text: app.state.granularity}), element('th', {text: 'times'}),
                element('th', {text: 'kept'}), element('th', {
                  text: 'median life',
                  title: 'tokens from being read to being dropped, of the copies in all the layers shown'
                }))),
        element('tbody', {}, ...entries.map(line)));
  }

  function draw() {
    compute();
    const most = number(horizonOf(app.trace));
    note.textContent =
        `${app.whose()}Of the ${most} tokens after each occurrence: the share that could still see it, over ` +
        `the layers shown. Occurrences nearer to the end are left out.`;
    fill($('most-kept'), tables.mostKept, 'No string occurs so often.');
    fill(
        $('first-forgotten'), tables.firstForgotten,
        tables.mostKept.length ? 'Nothing was forgotten.' : 'No string occurs so often.');
  }
  $('occurs').addEventListener('change', () => app.redraw('data', 'strings'));
  const matters = ['data', 'view', 'layer', 'lane', 'granularity'];
  const note = $('strings').querySelector('.title p');
  return {
    element: $('strings'),
    draw: (changed) => {
      if (matters.some((key) => changed.has(key))) draw();
    },
    tables: () => {
      compute();
      return tables;
    },
  };
}
