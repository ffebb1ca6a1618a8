// SPDX-License-Identifier: MIT
// One line of figures per trace.

function summaryView(app) {
  /// A path may break after its slashes.
  const nameOf = (name) =>
      element('bdi', {}, ...asLabel(name, 200).split(/(?<=\/)/).flatMap((part) => [part, element('wbr')]));

  function line(trace, name) {
    const {model, policy, tau, kv} = trace.meta;
    const fact = (term, ...value) => element('div', {}, element('dt', {text: term}), element('dd', {}, ...value));
    const end = trace.pass(trace.T - 1);
    const made = trace.T - trace.prompt;
    const logprob = meanLogprob(trace);
    const facts = [
      fact('policy', policy, typeof tau === 'number' ? `, τ = ${tau}` : ''),
      fact('tokens', number(trace.T), made ? ` (${number(made)} generated)` : ''),
      fact('layers', trace.H > 1 ? `${trace.L}, ${trace.H} heads each` : String(trace.L)),
      fact('context kept', percent(trace.kept())),
      fact(`cache at the end, ${kv}`, end ? `${bytes(end.kv_bytes)} of ${bytes(end.dense)}` : '–'),
    ];
    if (logprob !== null) facts.push(fact('log-probability', scoreText(logprob)));
    return element(
        'div', {class: `trace ${name.toLowerCase()}`},
        element(
            'p', {}, app.b ? element('b', {text: name}) : '', nameOf(model.name),
            app.b && name === 'B' ? element('small', {text: app.nameOfB}) : ''),
        element('dl', {}, ...facts));
  }

  function draw() {
    $('summary').replaceChildren(line(app.a, 'A'), ...(app.b ? [line(app.b, 'B')] : []));
    $('remove').hidden = !app.b;
    $('open').textContent = app.b ? 'Another B…' : 'Compare with…';
    $('view').hidden = !app.b;
    const difference = document.querySelector('#view [value="difference"]');
    difference.disabled = !app.common;
    document.title = `pith trace · ${app.a.meta.model.name}`;
  }
  const matters = ['data'];
  return {
    element: $('summary'),
    draw: (changed) => {
      if (matters.some((key) => changed.has(key))) draw();
    }
  };
}
