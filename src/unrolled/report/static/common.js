/* What line charts and heatmaps share: theme, numbers, ticks, the frame around uPlot. */
var unrolled = window.unrolled || (window.unrolled = {});
Object.assign(unrolled, (() => {
  "use strict";
  const drawn = unrolled.drawn || new Map(), waiting = unrolled.waiting || new Map();

  function el(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text != null) made.textContent = text;
    return made;
  }

  // numbers for people: 0.00012 as 1.2×10⁻⁴
  const MARK = [3, 4]; // dashes of a straight line across
  const title = (axis) => axis.title + (axis.scale === "log" ? " (log scale)" : "");

  // above a chart: what its upright axis shows, and what its level lines and shades mean
  function heads(spec, theme, stroke) {
    const parts = [el("div", "un-y", "↑ " + title(spec.y))];
    const key = (picture, label) => {
      const made = el("span", "un-key");
      made.append(picture, el("span", "", label));
      return made;
    };
    const marks = spec.marks.filter((m) => m.axis === "y").map((m) => key(swatch(stroke, MARK), m.label));
    const shades = (spec.shades || []).map((s) => {
      const patch = el("span", "un-patch");
      patch.style.background = theme.shade(s.colour);
      return key(patch, s.label);
    });
    const once = (keys) => [...new Map(keys.map((k) => [k.textContent, k])).values()];
    return [parts, once(marks), once(shades)];
  }

  const raised = (n) => String(n).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  function show(v, digits = 4) {
    if (v == null) return "none";
    const size = Math.abs(v);
    if (size === 0 || (size >= 1e-4 && size < 1e6))
      return Number(v.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 8 });
    const [head, exponent] = v.toExponential(Math.min(2, digits - 1)).split("e");
    const factor = String(Number(head));
    return (factor === "1" ? "" : factor + "×") + "10" + raised(Number(exponent));
  }

  // ticks of a log axis: decades, fewer of them where there are many, 2 and 5 where there are few
  function logTicks(low, high, most) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const decades = last - first + 1;
    if (decades >= 3) {
      const step = Math.ceil(decades / Math.max(2, most)), ticks = [];
      for (let n = last - Math.floor((last - first) / step) * step; n <= last; n += step) ticks.push(10 ** n);
      return ticks;
    }
    const ticks = [];
    for (let n = first - 1; n <= last; n++)
      for (const k of [1, 2, 5]) if (k * 10 ** n >= low && k * 10 ** n <= high) ticks.push(k * 10 ** n);
    return ticks.length >= 2 ? ticks : ticksBetween(low, high, most);
  }

  function ticksBetween(low, high, most, whole) {
    const raw = (high - low) / Math.max(2, most), size = 10 ** Math.floor(Math.log10(raw));
    const steps = [1, 2, 2.5, 5, 10].map((k) => k * size).filter((s) => !whole || Number.isInteger(s));
    const step = steps.find((s) => s >= raw) || (whole ? 1 : size);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
    return ticks;
  }

  // the range of an axis: its limits, or the values and a little room
  function range(axis, low, high, room) {
    const log = axis.scale === "log";
    if (!isFinite(low) || !isFinite(high) || low == null || high == null) [low, high] = log ? [0.1, 10] : [0, 1];
    if (low === high && axis.whole) [low, high] = [low - 1, high + 1];
    else if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) / 10 || 0.5), high + (Math.abs(high) / 10 || 0.5)];
    const pad = log ? (high / low) ** room : (high - low) * room;
    const [from, to] = axis.limits || [null, null];
    return [from ?? (log ? low / pad : low - pad), to ?? (log ? high * pad : high + pad)];
  }

  function theme(host) {
    const probe = host.appendChild(el("i"));
    const resolve = (css) => ((probe.style.color = ""), (probe.style.color = css), getComputedStyle(probe).color);
    const size = parseFloat(getComputedStyle(host).fontSize) || 16;
    const of = (colour) => resolve(typeof colour === "number" ? `var(--c${colour % unrolled.look.colours})` : colour);
    const made = {
      text: resolve("var(--text)"), quiet: resolve("var(--quiet)"), line: resolve("var(--grid)"), ground: resolve("var(--ground)"),
      palette: [...Array(unrolled.look.colours).keys()].map(of),
      named: (css) => { const p = host.appendChild(el("i")); p.style.color = css; const c = getComputedStyle(p).color; p.remove(); return c; },
      scale: size / 16, thick: (1.75 * size) / 16,
      font: (k) => `${Math.round(size * k)}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`,
    };
    made.colour = (c) => (typeof c === "number" ? made.palette[c % made.palette.length] : made.named(c));
    made.fade = (c) => made.colour(c).replace("rgb(", "rgba(").replace(")", ", 0.16)");
    made.shade = (c) => made.fade(c === "" ? "var(--serious)" : c);
    probe.remove();
    return made;
  }

  function swatch(stroke, dash) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "un-swatch");
    svg.setAttribute("viewBox", "0 0 28 10");
    svg.setAttribute("aria-hidden", "true");
    svg.innerHTML = `<line x1="1" y1="5" x2="27" y2="5" stroke="${stroke}" stroke-width="2.5" stroke-dasharray="${dash.join(" ")}"/>`;
    return svg;
  }

  /* The frame: a uPlot that follows the width of its element and the theme, with a tooltip,
     reference lines, and numbered axes. `rebuild` draws all anew. */
  function Frame(host, box, spec, rebuild) {
    let plot = null, width = 0, tip = null, later = 0, next = null;
    const frame = { theme: theme(host) };
    const height = () => Math.round(Math.max(230 * frame.theme.scale, Math.min(width * 0.5, 340 * frame.theme.scale)));

    frame.axis = (axis, side, foot = () => null) => {
      const t = frame.theme, log = axis.scale === "log", level = side === 0;
      return {
        side: level ? 2 : 3, stroke: t.text, font: t.font(0.78), labelFont: t.font(0.8),
        // the upright axis has its title level and above, where a phone has room for it
        label: level ? title(axis) : undefined, labelSize: 20 * t.scale, labelGap: 2, gap: 5 * t.scale,
        size: level ? 30 * t.scale : (u, values) => {
          const longest = Math.max(0, ...(values || []).map((v) => (v == null ? 0 : [...v].length)));
          return (longest * 7.4 + 16) * t.scale;
        },
        grid: { stroke: t.line, width: 1 }, ticks: { stroke: t.line, width: 1, size: 4 },
        splits: (u, i, low, high) => {
          const pixels = level ? u.bbox.width : u.bbox.height, each = (level ? 70 : 36) * t.scale * devicePixelRatio;
          const most = Math.max(2, Math.round((pixels || 300) / each));
          const ticks = log ? logTicks(low, high, most) : ticksBetween(low, high, most, axis.whole);
          const at = foot();
          return at == null ? ticks : [at, ...ticks.filter((v) => v > at * 1.5)];
        },
        filter: (u, splits) => splits,
        values: (u, splits) => splits.map((v) => (foot() === v ? "0" : show(v))),
      };
    };

    function shades(u) {
      const { ctx, bbox } = u, least = 3 * devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      for (const { start, end, colour } of spec.shades || []) {
        const from = u.valToPos(start, "x", true), to = u.valToPos(end, "x", true), wide = Math.max(least, to - from);
        ctx.fillStyle = frame.theme.shade(colour);
        ctx.fillRect((from + to - wide) / 2, bbox.top, wide, bbox.height);
      }
      ctx.restore();
    }

    function marks(u) {
      const { ctx, bbox } = u, t = frame.theme, d = devicePixelRatio;
      ctx.save();
      ctx.font = frame.theme.font(0.75 * d);
      for (const { axis, at, label } of spec.marks) {
        const level = axis === "y", where = u.valToPos(at, axis, true);
        const from = level ? bbox.top : bbox.left, to = from + (level ? bbox.height : bbox.width);
        if (!(where >= from - 1 && where <= to + 1)) continue;
        ctx.strokeStyle = ctx.fillStyle = spec.kind === "heatmap" ? "#ffffff" : t.quiet;
        ctx.lineWidth = 1.5 * d;
        ctx.setLineDash(MARK.map((n) => n * d));
        ctx.beginPath();
        if (level) ctx.moveTo(bbox.left, where), ctx.lineTo(bbox.left + bbox.width, where);
        else ctx.moveTo(where, bbox.top), ctx.lineTo(where, bbox.top + bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
        if (level) continue; // its words stand above, among the lines
        const wide = ctx.measureText(label).width, y = bbox.top + 12 * d * t.scale;
        const x = where + wide + 5 * d > bbox.left + bbox.width ? where - wide - 5 * d : where + 5 * d;
        ctx.lineJoin = "round";
        ctx.lineWidth = 4 * d; // a seam of ground keeps the word readable over lines
        ctx.strokeStyle = spec.kind === "heatmap" ? "rgba(0,0,0,0.65)" : t.ground;
        ctx.strokeText(label, x, y);
        ctx.fillText(label, x, y);
      }
      ctx.restore();
    }

    function point(u, hover) {
      const { left, top } = u.cursor;
      const lines = left >= 0 && top >= 0 ? hover(u, u.cursor.idx) : null;
      tip.hidden = !lines;
      if (!lines) return;
      tip.replaceChildren(...lines.map((parts) => { const line = el("div"); line.append(...parts); return line; }));
      const room = u.over.clientWidth;
      tip.style.left = `${Math.max(0, left + 14 + tip.offsetWidth > room ? left - tip.offsetWidth - 14 : left + 14)}px`;
      tip.style.top = `${Math.max(0, Math.min(top - 10, u.over.clientHeight - tip.offsetHeight))}px`;
    }

    frame.build = (options, data, hover, paint) => {
      width = Math.floor(box.clientWidth);
      if (!width) return; // not shown yet: the observer calls again
      frame.theme = theme(host);
      if (plot) plot.destroy();
      next = null; // what waited for the old plot may have other lines
      const values = data();
      const given = options();
      tip = el("div", "un-tip");
      tip.hidden = true;
      plot = new uPlot({
        width, height: height(), legend: { show: false }, padding: [12 * frame.theme.scale, 22 * frame.theme.scale, 0, 0],
        cursor: { y: false, points: { size: 7 }, drag: { x: spec.kind !== "heatmap", y: false }, ...(given.cursor || {}) },
        ...given,
        hooks: {
          init: [(u) => u.over.append(tip)],
          drawClear: [...(paint ? [paint] : []), shades],
          draw: [(u) => { marks(u); host.dataset.drawn = "yes"; }],
          setCursor: [(u) => point(u, hover)],
        },
      }, values, box);
      plot.over.addEventListener("mouseleave", () => (tip.hidden = true));
    };

    frame.data = (data) => { // many pushes between two frames of the screen are one drawing
      next = data;
      if (!plot) return rebuild();
      if (!later) later = requestAnimationFrame(() => { later = 0; if (next) plot.setData(next); });
    };

    new ResizeObserver(() => {
      const now = Math.floor(box.clientWidth);
      if (!now || now === width) return;
      if (!plot) return rebuild();
      width = now;
      plot.setSize({ width, height: height() });
    }).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
    matchMedia("print").addEventListener("change", rebuild);
    return frame;
  }

  function draw(host, spec) {
    host.replaceChildren();
    const made = unrolled[spec.kind](host, spec);
    drawn.set(host.id, made);
    for (const added of waiting.get(host.id) || []) made.push(added);
    waiting.delete(host.id);
    return made;
  }

  // draw as soon as the element is on the page: a notebook may run a script before
  function place(id, spec, tries = 200) {
    const host = document.getElementById(id);
    if (host) draw(host, spec);
    else if (tries) setTimeout(() => place(id, spec, tries - 1), 50);
  }

  function push(id, added) {
    if (drawn.has(id) && document.getElementById(id)) drawn.get(id).push(added);
    else waiting.set(id, [...(waiting.get(id) || []), added]); // it is not on the page yet
  }

  return { drawn, waiting, el, heads, show, range, swatch, theme, Frame, draw, place, push };
})());
