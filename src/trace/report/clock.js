// SPDX-License-Identifier: MIT
// The slider, the animation, and the line that says what is going on.

function clockView(app) {
  const slider = $('time'), play = $('play'), now = $('now');
  let before = 0, rest = 0;

  const rate = () => ($('speed').value === 'fit' ? Math.max(4, app.trace.T / 20) : Number($('speed').value));

  function tick(at) {
    if (!app.state.playing) return;
    // A tab that slept does not jump.
    rest += Math.min(0.25, (at - before) / 1000) * rate();
    before = at;
    const steps = Math.floor(rest);
    rest -= steps;
    if (steps) app.setTime(app.state.time + steps);
    if (app.state.time >= app.trace.T - 1)
      app.set({playing: false});
    else
      requestAnimationFrame(tick);
  }

  function toggle() {
    if (app.state.playing) return app.set({playing: false});
    if (app.state.time >= app.trace.T - 1) app.setTime(0);
    app.set({playing: true});
    before = performance.now();
    rest = 0;
    requestAnimationFrame(tick);
  }

  function draw() {
    const {trace, state} = app;
    const n = state.time;
    slider.max = trace.T - 1;
    slider.value = n;
    slider.setAttribute('aria-valuetext', `token ${n} of ${trace.T}`);
    play.textContent = state.playing ? 'Pause' : 'Play';
    $('start').disabled = $('back').disabled = n === 0;
    $('end').disabled = $('forward').disabled = n === trace.T - 1;

    const live = trace.live(state.layer, state.lane)[n] / app.rows.length / (n + 1);
    const {gone} = app;
    now.replaceChildren(
        app.whose(), 'Token ', element('b', {text: number(n)}), ` of ${number(trace.T)} `,
        element('b', {}, quoted(trace.text(n), 24)), ' sees ', element('b', {text: percent(live)}),
        ' of its context. ');
    if (!gone.length)
      now.append('Nothing let go here.');
    else {
      const rows = gone.reduce((sum, one) => sum + one.rows, 0);
      now.append('Let go here: ');
      gone.slice(0, 6).forEach(({position, rows: count}, i) => {
        now.append(i ? ', ' : '', quoted(trace.text(position), 14));
        if (count > 1) now.append(` ×${count}`);
      });
      now.append(gone.length > 6 ? ` and ${number(gone.length - 6)} more (${number(rows)} rows).` : '.');
    }
    now.title = now.textContent;
  }

  slider.addEventListener('input', () => app.setTime(Number(slider.value)));
  play.addEventListener('click', toggle);
  $('start').addEventListener('click', () => app.setTime(0));
  $('back').addEventListener('click', () => app.setTime(app.state.time - 1));
  $('forward').addEventListener('click', () => app.setTime(app.state.time + 1));
  $('end').addEventListener('click', () => app.setTime(app.trace.T - 1));
  return {element: $('clock'), draw, toggle};
}
