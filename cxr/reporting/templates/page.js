// Tables that sort, filter and copy; films whose boxes follow a slider.
'use strict';
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- Tables -----------------------------------------------------------

  // What is copied is exact; what is shown is rounded.
  const key = (cell) => {
    const text = (cell.dataset.tsv ?? cell.textContent).split('\t')[0].trim();
    if (text === '' || text === '–') return null;
    return Number.isFinite(Number(text)) ? Number(text) : text;
  };

  const order = (a, b) => {
    if (typeof a === 'number' && typeof b === 'number') return a - b;
    return String(a).localeCompare(String(b), 'en', { numeric: true });
  };

  function sort(table, column) {
    const heads = all('thead th', table);
    const up = heads[column].getAttribute('aria-sort') !== 'ascending';
    heads.forEach((head, i) => head.setAttribute('aria-sort',
      i !== column ? 'none' : up ? 'ascending' : 'descending'));
    const body = table.tBodies[0];
    // Rows without a figure stay last in both directions.
    const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
    rows.sort(([a], [b]) => a === null || b === null
      ? (a === null) - (b === null) : up ? order(a, b) : order(b, a));
    body.append(...rows.map(([, row]) => row));
  }

  const tsv = (table) => [table.tHead.rows[0], ...table.tBodies[0].rows]
    .filter((row) => !row.hidden)
    .map((row) => [...row.cells].map((cell) => cell.dataset.tsv ??
      cell.textContent.replace(/\s+/g, ' ').trim()).join('\t'))
    .join('\n') + '\n';

  async function copy(text, button) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without permission, or from a place that is not a secure context.
      const area = make('textarea', { value: text });
      document.body.append(area);
      area.select();
      done = document.execCommand('copy');
      area.remove();
    }
    const before = button.textContent;
    button.textContent = done ? 'Copied' : 'Not allowed here';
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  const pressed = (set) => set.querySelector('[aria-pressed=true]').value;
  const press = (set, button) => all('button', set).forEach((b) =>
    b.setAttribute('aria-pressed', String(b === button)));

  for (const box of all('.table')) {
    const table = box.querySelector('table');
    all('thead th', table).forEach((head, column) =>
      head.querySelector('button').addEventListener('click', () => sort(table, column)));
    const button = box.querySelector('.copy');
    button.addEventListener('click', () => copy(tsv(table), button));
  }

  for (const group of all('.group')) {
    const sets = all('[data-filter]', group);
    const filter = () => {
      for (const row of all('tbody tr', group)) {
        row.hidden = sets.some((set) => {
          const wanted = pressed(set);
          // '*' in a row stands in every choice; '' chosen shows every row.
          const own = row.dataset[set.dataset.filter] ?? '*';
          return wanted !== '' && own !== '*' && own !== wanted;
        });
      }
    };
    for (const set of sets) {
      for (const choice of all('button', set)) {
        choice.addEventListener('click', () => { press(set, choice); filter(); });
      }
    }
  }

  // ---- Maps and boxes -----------------------------------------------------

  const decode = (map) => {
    const bytes = atob(map.data);
    const values = new Float64Array(bytes.length);
    const step = (map.high - map.low) / 255;
    for (let i = 0; i < bytes.length; i++) values[i] = map.low + step * bytes.charCodeAt(i);
    return values;
  };

  // Bilinear with centres aligned, the border held, as jax.image.resize does.
  function taps(from, to) {
    const out = [];
    for (let i = 0; i < to; i++) {
      const x = Math.min(Math.max((i + .5) * from / to - .5, 0), from - 1);
      const low = Math.floor(x);
      out.push([low, Math.min(low + 1, from - 1), x - low]);
    }
    return out;
  }

  function resize(values, u, v, height, width) {
    const out = new Float64Array(height * width);
    const across = taps(v, width);
    taps(u, height).forEach(([a, b, t], i) => across.forEach(([c, d, s], j) => {
      const top = values[a * v + c] * (1 - s) + values[a * v + d] * s;
      const low = values[b * v + c] * (1 - s) + values[b * v + d] * s;
      out[i * width + j] = top * (1 - t) + low * t;
    }));
    return out;
  }

  // Boxes around the 8-connected regions above a level.
  function regions(values, height, width, level) {
    const seen = new Uint8Array(height * width);
    const boxes = [];
    for (let start = 0; start < values.length; start++) {
      if (seen[start] || !(values[start] > level)) continue;
      let [top, left, bottom, right] = [height, width, 0, 0];
      const stack = [start];
      seen[start] = 1;
      while (stack.length) {
        const at = stack.pop();
        const y = Math.floor(at / width);
        const x = at % width;
        top = Math.min(top, y); bottom = Math.max(bottom, y);
        left = Math.min(left, x); right = Math.max(right, x);
        for (let i = Math.max(y - 1, 0); i <= Math.min(y + 1, height - 1); i++) {
          for (let j = Math.max(x - 1, 0); j <= Math.min(x + 1, width - 1); j++) {
            const next = i * width + j;
            if (!seen[next] && values[next] > level) { seen[next] = 1; stack.push(next); }
          }
        }
      }
      boxes.push([top / height, left / width, (bottom + 1) / height, (right + 1) / width]);
    }
    return boxes;
  }

  const area = ([a, b, c, d]) => Math.max(c - a, 0) * Math.max(d - b, 0);
  const overlap = (p, q) => area([Math.max(p[0], q[0]), Math.max(p[1], q[1]),
    Math.min(p[2], q[2]), Math.min(p[3], q[3])]);
  const ratio = (a, b) => b > 0 ? a / b : 0;
  const iou = (p, q) => ratio(overlap(p, q), area(p) + area(q) - overlap(p, q));
  const iobb = (p, q) => ratio(overlap(p, q), area(p));
  const best = (score, boxes, truth) => truth.length
    ? truth.map((t) => Math.max(0, ...boxes.map((b) => score(b, t))))
      .reduce((a, b) => a + b) / truth.length : null;

  function svg(truth, boxes) {
    const space = 'http://www.w3.org/2000/svg';
    const root = document.createElementNS(space, 'svg');
    const view = { viewBox: '0 0 1 1', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
    Object.entries(view).forEach(([name, value]) => root.setAttribute(name, value));
    const draw = (kind, [top, left, bottom, right]) => {
      for (const style of ['casing', kind]) {
        const rect = document.createElementNS(space, 'rect');
        const values = { class: style, x: left, y: top, width: right - left, height: bottom - top };
        Object.entries(values).forEach(([name, value]) => rect.setAttribute(name, value));
        root.append(rect);
      }
    };
    truth.forEach((box) => draw('truth', box));
    boxes.forEach((box) => draw('predicted', box));
    return root;
  }

  function gallery(root) {
    const data = JSON.parse(document.getElementById(root.dataset.source).textContent);
    const find = (selector) => root.querySelector(selector);
    const chips = (name) => all(`[data-choice=${name}] button`, root);
    const slider = find('.level');
    const state = {
      finding: null, film: 0, moved: false, shared: false, opacity: .6,
      methods: new Set(chips('method').filter((b) =>
        b.getAttribute('aria-pressed') === 'true').map((b) => b.value)),
    };
    const picker = find('select.film');
    const colors = data.colors.match(/../g).map((h) => parseInt(h, 16));

    const paint = (canvas, values, height, width, low, high) => {
      Object.assign(canvas, { width, height });
      const context = canvas.getContext('2d');
      const pixels = context.createImageData(width, height);
      const scale = high > low ? 255 / (high - low) : 0;
      values.forEach((value, i) => {
        const c = 3 * Math.max(0, Math.min(255, Math.round((value - low) * scale)));
        pixels.data.set([colors[c], colors[c + 1], colors[c + 2], 255], 4 * i);
      });
      context.putImageData(pixels, 0, 0);
    };
    paint(find('.bar'), Float32Array.from({ length: 256 }, (_, i) => i), 1, 256, 0, 255);

    // Every map is decoded once, on a grid of the film's shape.
    const grids = new Map();
    const grid = (map, film) => {
      if (!grids.has(map)) {
        const shrink = Math.min(1, 256 / Math.max(film.height, film.width));
        const height = Math.max(1, Math.round(film.height * shrink));
        const width = Math.max(1, Math.round(film.width * shrink));
        const values = resize(decode(map), ...map.shape, height, width);
        let [low, high] = [Infinity, -Infinity];
        for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
        const range = high - low;
        const scaled = values.map((value) => range > 0 ? (value - low) / range : 0);
        grids.set(map, { values, scaled, height, width, low, high });
      }
      return grids.get(map);
    };

    const number = (value) => value === null || value === undefined ? '–' : value.toFixed(2);
    const short = (value) => Number(value.toPrecision(3)).toString().replace('-', '−');

    function limits(method) {
      const maps = data.cases.map((c) => c.maps[method]).filter(Boolean);
      return [Math.min(...maps.map((m) => m.low)), Math.max(...maps.map((m) => m.high))];
    }

    function panel(film, label, overlays, lines, description) {
      const image = make('img', { src: film.src, alt: description, width: film.width, height: film.height });
      const view = make('div', { className: 'view' }, image, ...overlays);
      const caption = make('figcaption', {}, make('b', { textContent: label }),
        ...lines.flatMap((line, i) => i ? [make('br'), line] : [line]));
      return make('figure', { className: 'panel' }, view, caption);
    }

    function row(item) {
      const film = data.films[item.film];
      const boxText = item.truth.length === 1 ? 'true box' : `${item.truth.length} true boxes`;
      const panels = [panel(film, 'film', [svg(item.truth, [])],
        [item.truth.length ? boxText : 'no true box given'],
        `Film ${film.name}, ${item.finding}` + (item.truth.length ? ', with the true box' : ''))];
      for (const method of data.methods.filter((m) => state.methods.has(m))) {
        const map = item.maps[method];
        if (!map) continue;
        const field = grid(map, film);
        const stored = (item.boxes || {})[method];
        // Eight bits make ties with a level that the full map has not.
        const boxes = stored && !state.moved ? stored : regions(field.scaled,
          field.height, field.width, (Number(slider.value) + 1e-3) / 255);
        const scores = [best(iou, boxes, item.truth), best(iobb, boxes, item.truth)];
        const canvas = make('canvas');
        const [low, high] = state.shared ? limits(method) : [field.low, field.high];
        paint(canvas, field.values, field.height, field.width, low, high);
        canvas.style.opacity = state.opacity;
        canvas.setAttribute('aria-hidden', 'true');
        const count = boxes.length === 1 ? '1 box' : `${boxes.length} boxes`;
        const said = scores[0] === null ? count
          : `IoU ${number(scores[0])} · IoBB ${number(scores[1])}`;
        const size = map.cells ? ` · map ${map.cells.join('×')}` : '';
        const figure = panel(film, method, [canvas, svg(item.truth, boxes)],
          [make('span', { className: 'scores', textContent: said }),
            ...(scores[0] === null && !size ? [] : [count + size]),
            `range ${short(map.low)} to ${short(map.high)}`],
          `${method} map of ${item.finding} over film ${film.name}: ${said}, ${count}`);
        figure.dataset.method = method;
        panels.push(figure);
      }
      return make('div', { className: 'panels' }, ...panels);
    }

    function calibrated(item) {
      if (item.calibrated === null) return '';
      const call = item.called === null ? '' : item.called ? ', called' : ', not called';
      return ` (calibrated ${number(item.calibrated)}${call})`;
    }

    function card(items) {
      const [first] = items;
      const film = data.films[first.film];
      // A film may be the best of one run and the worst of another.
      const kinds = new Set(items.map((item) => item.kind));
      const start = first.kind && kinds.size === 1 ? `${first.kind}: ` : '';
      const head = make('h3', { textContent: `${start}${film.name} ` });
      const element = make('article', { className: 'card' }, head);
      // Each run has a probability of its own, which stands above its row.
      const end = first.run === undefined && first.probability !== null
        ? `, probability ${number(first.probability)}${calibrated(first)}` : '';
      head.append(make('span', { textContent: first.finding + end }));
      (film.warnings || []).forEach((w) => element.append(make('p', { className: 'warning', textContent: w })));
      for (const item of items) {
        if (item.run !== undefined) {
          const probability = item.probability === null ? '' : `probability ${number(item.probability)}`;
          element.append(make('p', { className: 'run-name', textContent:
            [item.run, kinds.size > 1 ? item.kind : '', probability].filter(Boolean).join(', ') }));
        }
        element.append(row(item));
      }
      return element;
    }

    function render() {
      const shown = data.cases.filter((c) => !picker || c.film === state.film);
      const findings = [...new Set(shown.map((c) => c.finding))];
      if (!findings.includes(state.finding)) state.finding = findings[0] ?? null;
      for (const chip of chips('finding')) {
        chip.hidden = !findings.includes(chip.value);
        chip.setAttribute('aria-pressed', String(chip.value === state.finding));
      }
      const groups = new Map();
      for (const item of shown.filter((c) => c.finding === state.finding)) {
        const name = `${item.film} ${item.run === undefined ? item.kind : ''}`;
        groups.set(name, [...groups.get(name) ?? [], item]);
      }
      const cards = [...groups.values()].map(card);
      if (!cards.length) cards.push(make('p', { className: 'note', textContent: 'No map of this film was kept.' }));
      find('.cards').replaceChildren(...cards);
      find('.level-text').textContent = state.moved ? `${slider.value} of 255` : 'as evaluated';
      const [method, ...others] = state.methods;
      const one = state.shared && method && !others.length;
      [find('.low').textContent, find('.high').textContent] = one ? limits(method).map(short)
        : ['low', 'high'];
      find('.unit').textContent = one ? `${method}, all films alike`
        : state.shared ? 'per method, all films alike' : 'of each map by itself';
    }

    for (const chip of chips('finding')) {
      chip.addEventListener('click', () => { state.finding = chip.value; render(); });
    }
    for (const chip of chips('method')) {
      chip.addEventListener('click', () => {
        if (!state.methods.delete(chip.value)) state.methods.add(chip.value);
        chip.setAttribute('aria-pressed', String(state.methods.has(chip.value)));
        render();
      });
    }
    slider.addEventListener('input', () => { state.moved = true; render(); });
    find('.reset').addEventListener('click', () => { state.moved = false; slider.value = data.level; render(); });
    find('.shared').addEventListener('change', (event) => { state.shared = event.target.checked; render(); });
    find('.opacity').addEventListener('input', (event) => {
      state.opacity = event.target.value / 100;
      all('.view canvas', root).forEach((canvas) => { canvas.style.opacity = state.opacity; });
    });
    if (picker) {
      const go = (film) => { state.film = film; picker.value = film; render(); };
      picker.addEventListener('change', () => go(Number(picker.value)));
      for (const button of all('.step', root)) {
        button.addEventListener('click', () =>
          go((state.film + Number(button.value) + data.films.length) % data.films.length));
      }
    }
    if (picker) root.classList.add('one-film');
    render();
  }

  all('.gallery').forEach(gallery);
})();
