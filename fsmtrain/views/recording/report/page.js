"use strict";
// Looks closer at the charts that stand in the page: the numbers under the pointer, a part of the width, another scale.
// Nothing is drawn here but ticks; a closer look is another viewBox.
(() => {
  const book = JSON.parse(document.getElementById("numbers").textContent);
  const views = {}; // of charts over the same, the part that is shown: [from, to]; none is the whole

  const roundUp = (number) => {
    const decade = 10 ** Math.floor(Math.log10(number));
    return [1, 2, 5, 10].find((digit) => digit * decade >= number * 0.999999) * decade;
  };
  const short = (value) => {
    const size = Math.abs(value), brief = (number) => String(+number.toPrecision(4));
    if (size >= 1e6 && size < 1e9) return `${brief(value / 1e6)}M`;
    return size >= 1e4 && size < 1e6 ? `${brief(value / 1e3)}k` : brief(value);
  };
  const ticks = (low, high, isLog, most) => {
    const told = [];
    if (!isLog || high - low < 0.3) {
      const [from, to] = isLog ? [10 ** low, 10 ** high] : [low, high];
      const step = roundUp((to - from) / most);
      for (let n = Math.ceil(from / step); n * step <= to; n++) told.push(+(n * step).toPrecision(12));
      return told;
    }
    const from = Math.max(-307, Math.floor(low)), to = Math.min(307, Math.ceil(high));
    const every = Math.max(1, Math.ceil((to - from + 1) / (most + 1)));
    for (let decade = from; decade <= to; decade++)
      for (const digit of high - low > 1.5 ? [1] : [1, 2, 5]) {
        const value = digit * 10 ** decade, place = Math.log10(value);
        if (decade % every === 0 && place >= low && place <= high) told.push(value);
      }
    return told;
  };
  const put = (side, told, place) => {
    side.querySelectorAll("span").forEach((span) => span.remove());
    for (const value of told) {
      const span = document.createElement("span");
      span.textContent = short(value);
      place(span.style, value);
      side.prepend(span);
    }
  };
  const at = (xs, value, isUpper) => { // the first place that is not before a value; or the nearest one
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < value) low = middle + 1;
      else high = middle;
    }
    return !isUpper && low > 0 && value - xs[low - 1] < xs[low] - value ? low - 1 : low;
  };

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.told = book.charts[+figure.dataset.chart];
      this.plot = figure.querySelector(".plot");
      this.curves = figure.querySelector("svg.curves");
      this.marks = figure.querySelector("svg.marks");
      this.readout = figure.querySelector(".readout");
      this.cursor = figure.querySelector(".cursor");
      this.whole = figure.querySelector("button.whole");
      [, , this.wide, this.high] = this.curves.getAttribute("viewBox").split(" ").map(Number);
      this.keys = new Map();
      for (const span of figure.querySelectorAll("[data-series]")) {
        const value = span.querySelector("b");
        this.keys.set(+span.dataset.series, { value, last: value.textContent });
      }
      this.listen();
    }

    get view() { return views[this.told.group] || this.told.x; }
    get isLog() { return this.figure.classList.contains("is-log"); }

    listen() {
      const { plot, figure } = this;
      plot.classList.add("live");
      const log = figure.querySelector("button.log");
      if (log) {
        log.hidden = false;
        log.addEventListener("click", () => {
          log.setAttribute("aria-pressed", String(figure.classList.toggle("is-log")));
          this.draw();
        });
      }
      this.whole.addEventListener("click", () => look(this.told.group, null));
      plot.addEventListener("dblclick", () => look(this.told.group, null));
      plot.addEventListener("pointerdown", (event) => {
        this.from = this.x(event);
        plot.setPointerCapture(event.pointerId);
      });
      plot.addEventListener("pointermove", (event) => {
        this.point(this.x(event));
        if (this.from !== undefined) this.choose(this.from, this.x(event));
      });
      plot.addEventListener("pointerup", (event) => {
        const [from, to] = [this.from, this.x(event)].sort((a, b) => a - b), [low, high] = this.view;
        this.choose();
        if (to - from > (high - low) / 60) look(this.told.group, [from, to]);
      });
      plot.addEventListener("pointercancel", () => this.choose());
      plot.addEventListener("pointerleave", () => this.leave());
      plot.addEventListener("blur", () => this.leave());
      plot.addEventListener("keydown", (event) => {
        const [low, high] = this.view, here = this.here ?? (low + high) / 2;
        const moves = { ArrowLeft: -1, ArrowRight: 1 }, scales = { "+": 0.5, "=": 0.5, "-": 2 };
        if (event.key in moves) this.point(Math.min(high, Math.max(low, here + (moves[event.key] * (high - low)) / 100)));
        else if (event.key in scales) {
          const half = ((high - low) / 2) * scales[event.key], [least, most] = this.told.x;
          look(this.told.group, [Math.max(least, here - half), Math.min(most, here + half)]);
        } else if (event.key === "Escape") look(this.told.group, null);
        else return;
        event.preventDefault();
      });
    }

    x(event) {
      const box = this.plot.getBoundingClientRect(), [low, high] = this.view;
      return low + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (high - low);
    }

    choose(from, to) { // show which part is being chosen
      if (from === undefined) {
        this.from = undefined;
        this.chosen?.remove();
        this.chosen = undefined;
        return;
      }
      this.chosen ??= this.plot.appendChild(Object.assign(document.createElement("i"), { className: "chosen" }));
      const [low, high] = this.view, share = (x) => ((x - low) / (high - low)) * 100;
      this.chosen.style.left = `${share(Math.min(from, to))}%`;
      this.chosen.style.width = `${Math.abs(share(to) - share(from))}%`;
    }

    point(x) { // tell the numbers at a place
      this.here = x;
      const isTime = this.told.group === "time", [low, high] = this.view;
      let nearest;
      this.told.series.forEach((series, i) => {
        const grid = book.grids[series.grid], n = at(grid.x, x, isTime), value = series.y[n];
        if (!nearest || Math.abs(grid.x[n] - x) < Math.abs(nearest.grid.x[nearest.n] - x)) nearest = { grid, n };
        let told = value === null ? "no number" : isTime ? `${(value * 100).toFixed(1)} %` : String(+value.toPrecision(4));
        if (series.low && series.low[n] !== series.high[n])
          told += ` (${+series.low[n].toPrecision(3)} to ${+series.high[n].toPrecision(3)})`;
        this.keys.get(i).value.textContent = told;
      });
      if (!nearest) return;
      const { grid, n } = nearest, many = grid.n[n] > 1 ? `, ${grid.n[n].toLocaleString("en")} batches` : "";
      const time = isTime ? `up to ${short(grid.x[n])} ${this.told.unit}, ` : "";
      this.readout.textContent = `${time}step ${grid.step[n].toLocaleString("en")}, epoch ${grid.epoch[n] + 1}${many}`;
      this.cursor.hidden = false;
      this.cursor.style.left = `${((x - low) / (high - low)) * 100}%`;
    }

    leave() {
      this.here = undefined;
      this.cursor.hidden = true;
      this.readout.textContent = "";
      for (const { value, last } of this.keys.values()) value.textContent = last;
    }

    draw() {
      const [low, high] = this.view, [least, most] = this.told.x, isLog = this.isLog;
      const x = ((low - least) / (most - least)) * this.wide, wide = ((high - low) / (most - least)) * this.wide;
      const [bottom, top] = isLog ? this.told.log : this.told.lin, [from, to] = this.range(isLog) || [bottom, top];
      const y = ((top - to) / (top - bottom)) * this.high, tall = ((to - from) / (top - bottom)) * this.high;
      this.curves.setAttribute("viewBox", `${x} ${y} ${wide} ${tall}`);
      this.marks?.setAttribute("viewBox", `${x} 0 ${wide} ${this.high}`);
      put(this.figure.querySelector(".ticks.x"), ticks(low, high, false, 5), (style, value) => {
        style.left = `${((value - low) / (high - low)) * 100}%`;
      });
      if (this.told.group !== "time")
        put(this.figure.querySelector(`.ticks.y.${isLog ? "log" : "lin"}`), ticks(from, to, isLog, 5), (style, value) => {
          style.top = `${((to - (isLog ? Math.log10(value) : value)) / (to - from)) * 100}%`;
        });
      this.whole.hidden = !views[this.told.group];
    }

    range(isLog) { // of the numbers in view, where only a part is
      if (!views[this.told.group] || this.told.group === "time") return null;
      const [low, high] = this.view;
      let from = Infinity, to = -Infinity;
      for (const series of this.told.series) {
        const xs = book.grids[series.grid].x;
        const first = Math.max(0, at(xs, low, true) - 1), last = at(xs, high, true);
        for (const values of [series.y, series.low, series.high])
          for (let n = first; values && n <= last; n++)
            if (values[n] !== null) {
              const value = isLog ? Math.log10(values[n]) : values[n];
              from = Math.min(from, value);
              to = Math.max(to, value);
            }
      }
      if (from > to) return null;
      const margin = (to - from) * 0.04 || Math.abs(to) * 0.04 || 0.5;
      return [from - margin, to + margin];
    }
  }

  const charts = [...document.querySelectorAll(".chart")].map((figure) => new Chart(figure));
  const look = (group, view) => {
    if (view && !(view[1] - view[0] > 0)) return;
    views[group] = view || undefined;
    for (const chart of charts) if (chart.told.group === group) chart.draw();
  };
  for (const help of document.querySelectorAll(".help")) help.hidden = false;
})();
