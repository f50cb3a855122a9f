/* A number for each pair of x and y, as colour: painted under the axes of a uPlot. */
unrolled.heatmap = (host, spec) => {
  "use strict";
  const { el, show, Frame, look } = unrolled;
  const keys = host.appendChild(el("div", "un-keys"));
  const top = host.appendChild(el("div", "un-heads"));
  const box = host.appendChild(el("div", "un-plot"));
  const log = spec.z.scale === "log";
  const stops = look.maps[spec.map].map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  let frame;

  // 0 to 1: the place of a value between the smallest colour and the largest
  function place(v) {
    const { low, high } = spec.range;
    if (log && v <= 0) return 0;
    const share = log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
    return Math.min(1, Math.max(0, share));
  }

  function colour(share) {
    const at = share * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), rest = at - i;
    return `rgb(${stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * rest)).join(",")})`;
  }

  // edges halfway between neighbours
  function edges(centres) {
    const n = centres.length;
    if (n === 1) return [centres[0] - 0.5, centres[0] + 0.5];
    const inner = centres.slice(1).map((c, i) => (c + centres[i]) / 2);
    return [2 * centres[0] - inner[0], ...inner, 2 * centres[n - 1] - inner.at(-1)];
  }

  function paint(u) {
    const { ctx, bbox } = u, xs = edges(spec.columns), ys = edges(spec.rows);
    const at = (values, axis) => values.map((v) => Math.round(u.valToPos(v, axis, true)));
    const px = at(xs, "x"), py = at(ys, "y");
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    spec.values.forEach((column, i) => column.forEach((v, j) => {
      if (v == null) return;
      ctx.fillStyle = colour(place(v));
      ctx.fillRect(px[i], py[j + 1], Math.max(1, px[i + 1] - px[i]), Math.max(1, py[j] - py[j + 1]));
    }));
    ctx.restore();
  }

  function named(axis, labels, at) { // names instead of numbers, where rows or columns have them
    if (!labels.length) return axis;
    return { ...axis, splits: () => at, values: () => labels, grid: { show: false },
      size: axis.side === 2 ? axis.size : (u, values) => (Math.max(...labels.map((l) => l.length)) * 7.4 + 16) * frame.theme.scale };
  }

  function options() {
    const xs = edges(spec.columns), ys = edges(spec.rows), { theme } = frame;
    const x = frame.axis(spec.x, 0), y = frame.axis(spec.y, 1);
    x.grid = y.grid = { show: false };
    return {
      cursor: { y: true, points: { show: false } },
      scales: {
        x: { time: false, range: () => spec.x.limits || [xs[0], xs.at(-1)] },
        y: { range: () => spec.y.limits || [ys[0], ys.at(-1)] },
      },
      axes: [named(x, spec.column_labels, spec.columns), named(y, spec.row_labels, spec.rows)],
      series: [{}, ...spec.overlays.map((s) => ({ label: s.label, stroke: "#fff", dash: look.dashes[s.dash], width: theme.thick, points: { show: false } }))],
    };
  }

  const data = () => uPlot.join([[spec.columns, spec.columns.map(() => null)], ...spec.overlays.map((s) => [s.x, s.y])])
    .filter((_, i) => i !== 1);

  function hover(u) {
    const { left, top } = u.cursor, xs = edges(spec.columns), ys = edges(spec.rows);
    const find = (list, v) => list.findIndex((edge, i) => i && v < edge) - 1;
    const i = find(xs, u.posToVal(left, "x")), j = find(ys, u.posToVal(top, "y"));
    const v = i >= 0 && j >= 0 ? spec.values[i][j] : null;
    if (v == null) return null;
    const name = (axis, labels, at, k) => `${axis.title}: ${labels.length ? labels[k] : show(at[k])}`;
    return [[name(spec.x, spec.column_labels, spec.columns, i)], [name(spec.y, spec.row_labels, spec.rows, j)],
      [`${spec.z.title}: `, el("b", "", show(v))]];
  }

  function legend() {
    const { low, high } = spec.range, bar = el("span", "un-bar"), parts = [];
    bar.style.background = `linear-gradient(to right, ${[...Array(21).keys()].map((k) => colour(k / 20)).join(",")})`;
    const middle = log ? Math.sqrt(low * high) : (low + high) / 2;
    const scale = el("span", "un-scale");
    const below = spec.values.some((c) => c.some((v) => v != null && v < low));
    scale.append(bar, el("span", "un-low", (below ? "≤ " : "") + show(low, 2)), el("span", "un-mid", show(middle, 2)), el("span", "un-high", show(high, 2)));
    parts.push(el("span", "un-name", spec.z.title + (log ? " (log scale)" : "")), scale);
    for (const s of spec.overlays) {
      const key = el("span", "un-key un-over");
      key.append(unrolled.swatch("#fff", look.dashes[s.dash]), el("span", "", s.label));
      parts.push(key);
    }
    const [head, marks, shades] = unrolled.heads(spec, frame.theme, "#fff");
    for (const mark of marks) mark.classList.add("un-over");
    top.replaceChildren(...head);
    keys.replaceChildren(...parts, ...marks, ...shades);
  }

  function rebuild() {
    frame.build(options, data, hover, paint);
    legend();
  }

  // a column: {x, values}
  function push(added) {
    for (const { x, values } of added) spec.columns.push(x), spec.values.push(values);
    const flat = spec.values.flat().filter((v) => v != null && (!log || v > 0));
    spec.range = { low: flat.reduce((a, b) => Math.min(a, b), spec.range.low), high: flat.reduce((a, b) => Math.max(a, b), spec.range.high) };
    rebuild();
  }

  frame = Frame(host, box, spec, rebuild);
  rebuild();
  return { push, spec };
};
