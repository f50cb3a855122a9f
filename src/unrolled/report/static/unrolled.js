/* Draws the specifications of unrolled/report/spec.py: lines over two axes, by uPlot.

   unrolled.draw(element, spec)   a picture; gives a handle with push(series)
   unrolled.push(id, series)      appends points to the chart that was drawn under this id:
                                  [{label, x: [..], y: [..], low, high, colour, dash}, ..]
   Heatmaps and what is common to both stand in heatmap.js and common.js. */
unrolled.chart = (host, spec) => {
  "use strict";
  const MOST = 4000; // points of a line; beyond, two neighbours become one
  const FEW = 30; // points that are marked as such
  const { el, show, Frame, look } = unrolled;
  const hidden = new Set();
  const log = spec.y.scale === "log";
  const legend = host.appendChild(el("div", "un-keys"));
  const top = host.appendChild(el("div", "un-heads"));
  const box = host.appendChild(el("div", "un-plot"));
  let keys = [], foot = null, frame;

  const bounds = (series) =>
    series.flatMap((s) => (hidden.has(s.label) ? [] : [s.y, s.low || [], s.high || []]))
      .flat().filter((v) => v != null);

  // where a log axis draws 0: at the end that it is given, or a decade below the smallest value
  function findFoot() {
    const all = spec.series.flatMap((s) => [s.y, s.low || [], s.high || []]).flat();
    const positive = all.filter((v) => v > 0);
    const zero = all.some((v) => v != null && v <= 0);
    const least = positive.reduce((a, b) => Math.min(a, b), Infinity);
    const below = positive.length ? 10 ** (Math.floor(Math.log10(least)) - 1) : 0.1;
    foot = log && zero ? (spec.y.limits && spec.y.limits[0]) ?? below : null;
  }

  const lift = (values) => (foot == null ? values : values.map((v) => (v != null && v <= 0 ? foot : v)));

  // a line that goes back (a second training on one board) is put in order of x
  function rising(s) {
    if (s.x.every((x, i) => !i || s.x[i - 1] < x)) return s;
    const order = [...new Map(s.x.map((x, i) => [x, i])).values()].sort((a, b) => s.x[a] - s.x[b]);
    const pick = (values) => values && values.length ? order.map((i) => values[i]) : values;
    return { ...s, x: pick(s.x), y: pick(s.y), low: pick(s.low), high: pick(s.high) };
  }

  // uPlot wants one x for all lines: undefined where a line has no point, null for a gap
  function aligned() {
    findFoot();
    const tables = spec.series.map(rising).map((s) => {
      const band = s.low && s.low.length;
      return [s.x, lift(s.y), ...(band ? [lift(s.low), lift(s.high)] : [])];
    });
    return tables.length ? uPlot.join(tables) : [[]];
  }

  // values without a neighbour, of which a line alone would show nothing; undefined is no gap
  function isolated(values) {
    const own = [...values.keys()].filter((i) => values[i] !== undefined);
    return own.filter((i, k) => values[i] != null && values[own[k - 1]] == null && values[own[k + 1]] == null);
  }

  function options() {
    const { theme } = frame;
    const series = [{}], bands = [];
    keys.length = 0;
    const few = spec.series.every((s) => s.x.length <= FEW);
    const filter = (u, i) => (few ? null : isolated(u.data[i]));
    for (const s of spec.series) {
      const stroke = theme.colour(s.colour), dash = look.dashes[s.dash] || [];
      keys.push({ first: series.length, count: 1, series: s, stroke, dash });
      const show = !hidden.has(s.label);
      series.push({ label: s.label, stroke, dash, width: theme.thick, show, points: { show: few, filter, size: 5 * theme.scale, fill: stroke } });
      if (s.low && s.low.length) {
        const i = series.length;
        keys.at(-1).count = 3;
        for (const label of ["low", "high"])
          series.push({ label, show, stroke: "transparent", width: 0, points: { show: false } });
        bands.push({ series: [i + 1, i], fill: theme.fade(s.colour) });
      }
    }
    return {
      series, bands,
      scales: {
        x: { time: false, distr: spec.x.scale === "log" ? 3 : 1, range: (u, lo, hi) => unrolled.range(spec.x, lo, hi, 0) },
        y: { distr: log ? 3 : 1, range: () => {
          const marks = spec.marks.filter((m) => m.axis === "y").map((m) => m.at);
          const values = [...bounds(spec.series), ...marks].map((v) => (foot != null && v <= 0 ? foot : v));
          const lo = values.reduce((a, b) => Math.min(a, b), Infinity);
          const hi = values.reduce((a, b) => Math.max(a, b), -Infinity);
          return unrolled.range(spec.y, lo, hi, 0.05);
        } },
      },
      axes: [frame.axis(spec.x, 0), frame.axis(spec.y, 1, () => foot)],
    };
  }

  function fillKeys() {
    const [head, marks, shades] = unrolled.heads(spec, frame.theme, frame.theme.quiet);
    top.replaceChildren(...head);
    const buttons = keys.map((key) => {
      const on = !hidden.has(key.series.label);
      const button = el("button", "un-key");
      button.type = "button";
      button.setAttribute("aria-pressed", on);
      button.title = on ? "hide this line" : "show this line";
      button.append(unrolled.swatch(key.stroke, key.dash), el("span", "", key.series.label));
      button.onclick = () => {
        hidden[on ? "add" : "delete"](key.series.label);
        rebuild();
      };
      return button;
    });
    legend.replaceChildren(...buttons, ...marks, ...shades);
  }

  function hover(u, i) {
    const lines = [];
    for (const { first, count, series, stroke, dash } of keys) {
      const v = u.data[first][i];
      if (v == null || hidden.has(series.label)) continue;
      const real = foot != null && v === foot ? 0 : v;
      const band = count > 1 ? ` (${show(u.data[first + 1][i])} to ${show(u.data[first + 2][i])})` : "";
      lines.push([unrolled.swatch(stroke, dash), `${series.label}: `, el("b", "", show(real)), band]);
    }
    return lines.length ? [[`${spec.x.title} ${show(u.data[0][i])}`], ...lines] : null;
  }

  function rebuild() {
    frame.build(options, aligned, hover);
    fillKeys();
  }

  function thin(s) {
    const both = (values, how) => values.reduce((all, v, i) => {
      if (i % 2) all[all.length - 1] = how(all.at(-1), v);
      else all.push(v);
      return all;
    }, []);
    const pick = (how) => (a, b) => (a == null ? b : b == null ? a : how(a, b));
    const mean = pick((a, b) => (a + b) / 2);
    const low = both(s.low && s.low.length ? s.low : s.y, pick(Math.min));
    const high = both(s.high && s.high.length ? s.high : s.y, pick(Math.max));
    Object.assign(s, { x: both(s.x, mean), y: both(s.y, mean), low, high });
  }

  function push(added) {
    let shape = false;
    for (const part of added) {
      let s = spec.series.find((s) => s.label === part.label);
      if (!s) {
        s = { colour: 0, dash: "solid", low: [], high: [], ...part, x: [], y: [] };
        spec.series.push(s);
        shape = true;
      }
      const few = s.x.length <= FEW;
      s.x.push(...part.x);
      s.y.push(...part.y);
      if (s.low && s.low.length) { // new points have no extremes of their own
        s.low.push(...(part.low || part.y));
        s.high.push(...(part.high || part.y));
      }
      if (s.x.length > MOST) thin(s), (shape = true);
      if (few !== s.x.length <= FEW) shape = true;
    }
    if (shape) rebuild();
    else frame.data(aligned());
  }

  frame = Frame(host, box, spec, rebuild);
  rebuild();
  return { push, spec };
};
