// Marks a run in all charts and in the table, when the pointer or the focus is on it anywhere; sorts the table.
(() => {
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const main = document.querySelector("main"), table = document.querySelector("table.runs");
  let kept = null; // the run that a click keeps marked
  const mark = (run) => {
    const shown = run ?? kept;
    main.classList.toggle("has-marked", shown !== null);
    for (const element of main.querySelectorAll("[data-run]"))
      element.classList.toggle("marked", shown !== null && element.dataset.run === String(shown));
    if (shown !== null) // what is drawn last is on top
      for (const path of main.querySelectorAll(`path[data-run="${shown}"]`)) path.parentNode.append(path);
  };
  const keep = (run) => {
    kept = kept === run ? null : run;
    mark(kept);
  };
  for (const element of main.querySelectorAll("tr[data-run], .legend [data-run]")) {
    const run = +element.dataset.run;
    element.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && mark(run));
    element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && mark(null));
    element.addEventListener("focus", () => mark(run));
    element.addEventListener("blur", () => mark(null));
    element.addEventListener("click", () => keep(run));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      keep(run);
      event.preventDefault();
    });
  }

  // The curve that is nearest to the pointer, in pixels, at its place on the x axis.
  const nearest = (figure, event) => {
    const chart = data.charts[+figure.dataset.chart], plot = figure.querySelector(".plot"), box = plot.getBoundingClientRect();
    const svg = figure.querySelector("svg.curves"), [left, top, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const isLog = figure.classList.contains("is-log"), [low, high] = isLog ? chart.log : chart.lin, [start, end] = chart.x;
    const x = start + ((left + ((event.clientX - box.left) / box.width) * width) / 10000) * (end - start);
    const pixel = (value) => ((1 - ((isLog ? Math.log10(value) : value) - low) / (high - low)) * 1000 - top) / height * box.height;
    let found = null, least = 40;
    for (const series of chart.series) {
      const xs = data.grids[series.grid].x;
      let n = xs.findIndex((each) => each >= x);
      if (n === -1) n = xs.length - 1;
      const before = Math.max(0, n - 1), share = xs[n] > xs[before] ? (x - xs[before]) / (xs[n] - xs[before]) : 1;
      const [a, b] = [series.y[before], series.y[n]];
      if (a === null || b === null || share > 1.05) continue;
      const distance = Math.abs(pixel(a) + (pixel(b) - pixel(a)) * Math.max(0, share) - (event.clientY - box.top));
      if (distance < least) [found, least] = [series, distance];
    }
    return found;
  };
  for (const figure of document.querySelectorAll(".chart")) {
    const plot = figure.querySelector(".plot"), readout = figure.querySelector(".readout");
    plot.addEventListener("pointermove", (event) => {
      const series = nearest(figure, event);
      mark(series ? series.run : null);
      if (series) readout.textContent = `${series.name}, ${readout.textContent}`;
    });
    plot.addEventListener("pointerleave", () => mark(null));
  }

  // ---- sorting
  const number = (text) => {
    const found = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(found) ? null : found;
  };
  for (const head of table.querySelectorAll("th[data-column]")) {
    head.classList.add("sortable");
    head.tabIndex = 0;
    const sort = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1, column = +head.dataset.column;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
      const numeric = rows.every(({ text }) => text === "" || /^[-+]?[\d.,]+(e[-+]?\d+)?$/.test(text));
      rows.sort((a, b) => {
        if (!a.text || !b.text) return !a.text - !b.text;
        return sign * (numeric ? number(a.text) - number(b.text) : a.text.localeCompare(b.text, "en", { numeric: true }));
      });
      table.tBodies[0].append(...rows.map(({ row }) => row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  }
})();
