"use strict";
// Zooms into the charts of the page, switches them to a logarithmic axis, and shows the values under the pointer.
// It draws nothing but ticks: zooming changes the viewBox of the SVG pictures.
(() => {
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const zooms = {}; // group of charts -> [from, to], the visible part of the x axis; undefined: the whole axis

  const roundUp = (number) => {
    const decade = 10 ** Math.floor(Math.log10(number));
    return [1, 2, 5, 10].find((digit) => digit * decade >= number * 0.999999) * decade;
  };
  const formatTick = (value) => {
    const size = Math.abs(value), short = (number) => String(+number.toPrecision(4));
    if (size >= 1e6 && size < 1e9) return `${short(value / 1e6)}M`;
    return size >= 1e4 && size < 1e6 ? `${short(value / 1e3)}k` : short(value);
  };
  const ticks = (low, high, isLog, maxTicks) => { // the rule of axes.py, and linear ticks for a small part of a log axis
    const values = [];
    if (!isLog || high - low < 0.3) {
      const [from, to] = isLog ? [10 ** low, 10 ** high] : [low, high];
      const step = roundUp((to - from) / maxTicks);
      for (let n = Math.ceil(from / step); n * step <= to; n++) values.push(+(n * step).toPrecision(12));
      return values;
    }
    const from = Math.max(-307, Math.floor(low)), to = Math.min(307, Math.ceil(high));
    const spacing = Math.max(1, Math.ceil((to - from + 1) / (maxTicks + 1)));
    for (let decade = from; decade <= to; decade++)
      for (const digit of high - low > 1.5 ? [1] : [1, 2, 5]) {
        const value = digit * 10 ** decade, log = Math.log10(value);
        if (decade % spacing === 0 && log >= low && log <= high) values.push(value);
      }
    return values;
  };
  const replaceTicks = (container, values, setPosition) => {
    container.querySelectorAll("span").forEach((span) => span.remove());
    for (const value of values) {
      const span = document.createElement("span");
      span.textContent = formatTick(value);
      setPosition(span.style, value);
      container.prepend(span);
    }
  };
  const indexAt = (xs, value, roundsUp) => { // of the first x >= value, or of the nearest x
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < value) low = middle + 1;
      else high = middle;
    }
    return !roundsUp && low > 0 && value - xs[low - 1] < xs[low] - value ? low - 1 : low;
  };

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.chart = data.charts[+figure.dataset.chart];
      this.plot = figure.querySelector(".plot");
      this.curves = figure.querySelector("svg.curves");
      this.marks = figure.querySelector("svg.marks");
      this.readout = figure.querySelector(".readout");
      this.cursor = figure.querySelector(".cursor");
      this.reset = figure.querySelector("button.reset");
      [, , this.width, this.height] = this.curves.getAttribute("viewBox").split(" ").map(Number);
      this.legend = new Map();
      for (const span of figure.querySelectorAll("[data-series]")) {
        const value = span.querySelector("b");
        this.legend.set(+span.dataset.series, { value, last: value.textContent });
      }
      this.listen();
    }

    get isTime() { return this.chart.group === "time"; }
    get visible() { return zooms[this.chart.group] || this.chart.x; }
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
      this.reset.addEventListener("click", () => zoom(this.chart.group, null));
      plot.addEventListener("dblclick", () => zoom(this.chart.group, null));
      plot.addEventListener("pointerdown", (event) => {
        this.dragStart = this.x(event);
        plot.setPointerCapture(event.pointerId);
      });
      plot.addEventListener("pointermove", (event) => {
        this.showValues(this.x(event));
        if (this.dragStart !== undefined) this.showSelection(this.dragStart, this.x(event));
      });
      plot.addEventListener("pointerup", (event) => {
        const [from, to] = [this.dragStart, this.x(event)].sort((a, b) => a - b), [low, high] = this.visible;
        this.hideSelection();
        if (to - from > (high - low) / 60) zoom(this.chart.group, [from, to]);
      });
      plot.addEventListener("pointercancel", () => this.hideSelection());
      plot.addEventListener("pointerleave", () => this.hideValues());
      plot.addEventListener("blur", () => this.hideValues());
      plot.addEventListener("keydown", (event) => {
        const [low, high] = this.visible, x = this.cursorX ?? (low + high) / 2;
        const moves = { ArrowLeft: -1, ArrowRight: 1 }, scales = { "+": 0.5, "=": 0.5, "-": 2 };
        if (event.key in moves) this.showValues(Math.min(high, Math.max(low, x + (moves[event.key] * (high - low)) / 100)));
        else if (event.key in scales) {
          const half = ((high - low) / 2) * scales[event.key], [start, end] = this.chart.x;
          zoom(this.chart.group, [Math.max(start, x - half), Math.min(end, x + half)]);
        } else if (event.key === "Escape") zoom(this.chart.group, null);
        else return;
        event.preventDefault();
      });
    }

    x(event) {
      const box = this.plot.getBoundingClientRect(), [low, high] = this.visible;
      return low + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (high - low);
    }

    showSelection(from, to) {
      this.selection ??= this.plot.appendChild(Object.assign(document.createElement("i"), { className: "selection" }));
      const [low, high] = this.visible, percent = (x) => ((x - low) / (high - low)) * 100;
      this.selection.style.left = `${percent(Math.min(from, to))}%`;
      this.selection.style.width = `${Math.abs(percent(to) - percent(from))}%`;
    }

    hideSelection() {
      this.dragStart = undefined;
      this.selection?.remove();
      this.selection = undefined;
    }

    showValues(x) {
      this.cursorX = x;
      const [low, high] = this.visible;
      let nearest;
      this.chart.series.forEach((series, i) => {
        const grid = data.grids[series.grid], n = indexAt(grid.x, x, this.isTime), value = series.y[n];
        if (!nearest || Math.abs(grid.x[n] - x) < Math.abs(nearest.grid.x[nearest.n] - x)) nearest = { grid, n };
        let text = value === null ? "not finite" : this.isTime ? `${(value * 100).toFixed(1)} %` : String(+value.toPrecision(4));
        if (series.low && series.low[n] !== series.high[n])
          text += ` (${+series.low[n].toPrecision(3)} to ${+series.high[n].toPrecision(3)})`;
        this.legend.get(i).value.textContent = text;
      });
      if (!nearest) return;
      const { grid, n } = nearest, batches = grid.n[n] > 1 ? `, ${grid.n[n].toLocaleString("en")} batches` : "";
      const time = this.isTime ? `up to ${formatTick(grid.x[n])} ${this.chart.unit}, ` : "";
      this.readout.textContent = `${time}step ${grid.step[n].toLocaleString("en")}, epoch ${grid.epoch[n] + 1}${batches}`;
      this.cursor.hidden = false;
      this.cursor.style.left = `${((x - low) / (high - low)) * 100}%`;
    }

    hideValues() {
      this.cursorX = undefined;
      this.cursor.hidden = true;
      this.readout.textContent = "";
      for (const { value, last } of this.legend.values()) value.textContent = last;
    }

    draw() {
      const [low, high] = this.visible, [start, end] = this.chart.x, isLog = this.isLog;
      const x = ((low - start) / (end - start)) * this.width, width = ((high - low) / (end - start)) * this.width;
      const [bottom, top] = isLog ? this.chart.log : this.chart.lin, [from, to] = this.visibleRange(isLog) || [bottom, top];
      const y = ((top - to) / (top - bottom)) * this.height, height = ((to - from) / (top - bottom)) * this.height;
      this.curves.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
      this.marks?.setAttribute("viewBox", `${x} 0 ${width} ${this.height}`);
      replaceTicks(this.figure.querySelector(".ticks.x"), ticks(low, high, false, 5), (style, value) => {
        style.left = `${((value - low) / (high - low)) * 100}%`;
      });
      if (!this.isTime) {
        const container = this.figure.querySelector(`.ticks.y.${isLog ? "log" : "lin"}`);
        replaceTicks(container, ticks(from, to, isLog, 5), (style, value) => {
          style.top = `${((to - (isLog ? Math.log10(value) : value)) / (to - from)) * 100}%`;
        });
      }
      this.reset.hidden = !zooms[this.chart.group];
    }

    visibleRange(isLog) { // of the values, if only a part of the x axis is visible
      if (!zooms[this.chart.group] || this.isTime) return null;
      const [low, high] = this.visible;
      let from = Infinity, to = -Infinity;
      for (const series of this.chart.series) {
        const xs = data.grids[series.grid].x;
        const first = Math.max(0, indexAt(xs, low, true) - 1), last = indexAt(xs, high, true);
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
  const zoom = (group, part) => {
    if (part && !(part[1] - part[0] > 0)) return;
    zooms[group] = part || undefined;
    for (const chart of charts) if (chart.chart.group === group) chart.draw();
  };
  for (const help of document.querySelectorAll(".help")) help.hidden = false;
})();
