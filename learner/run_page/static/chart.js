/** One card with one chart: title, legend with the figures under the cursor, and uPlot's canvas. */

import { el, fill, say } from "./dom.js";
import { clock, figure, isNumber } from "./format.js";
import { palette, withAlpha } from "./palette.js";
import { smoothed } from "./series.js";
import { visible } from "./visible.js";

const HEIGHT = 180;
const FEW_POINTS = 30;

export class Chart {
  /**
   * `format`: a figure as text. `isStacked`: areas on top of each other. `hasPoints`: marks on every
   * value. `emptyText`: what is said where there is no figure. `zoom`: called with {min, max} or null.
   */
  constructor({
    title,
    hint,
    format = figure,
    isStacked = false,
    hasPoints = false,
    isWide = false,
    emptyText = "No figures yet.",
    zoom,
  }) {
    Object.assign(this, { title, format, isStacked, hasPoints, zoom });
    this.legend = el("div", { class: "legend" });
    this.plot = el("div", { class: "plot", role: "img" });
    this.empty = el("p", { class: "empty" }, emptyText);
    this.element = el(
      "section",
      { class: isWide ? "card wide" : "card", "data-chart": title },
      el("div", { class: "card-head" }, el("h3", {}, title), this.legend),
      el("p", { class: "hint", title: hint }, hint),
      el("div", { class: "plot-space" }, this.plot, this.empty),
    );
    this.shape = "";
    this.lines = [];
    new ResizeObserver(() => this.#resize()).observe(this.plot);
  }

  /**
   * Show `lines` ([{label, places, values, dash}], all on the same places) within `range` of `axis`,
   * smoothed by `weight`.
   */
  show(lines, { axis, weight, range }) {
    this.lines = lines.filter((line) => line.values.some(isNumber));
    this.axis = axis;
    this.range = range;
    this.empty.hidden = this.lines.length > 0;
    const few = (this.lines[0]?.values.length ?? 0) <= FEW_POINTS;
    const shape = JSON.stringify([axis, few, weight > 0, this.lines.map((line) => line.label)]);
    const data = this.#data(weight);
    if (shape !== this.shape) this.#rebuild(data, few, weight > 0);
    else if (this.uplot) this.uplot.setData(data, false);
    this.shape = shape;
    this.uplot?.setScale("x", range);
    this.#tell(null);
  }

  /** Draw again in the colours of a new theme. */
  repaint() {
    this.shape = "";
  }

  #data(weight) {
    const places = this.lines[0]?.places ?? [];
    this.means = this.lines.map((line) => smoothed(line.values, weight));
    if (this.isStacked) return [places, ...stack(this.means).reverse()];
    if (!weight) return [places, ...this.means];
    return [places, ...this.lines.map((line) => line.values), ...this.means];
  }

  #rebuild(data, few, isSmoothed) {
    this.uplot?.destroy();
    this.uplot = null;
    this.#drawLegend();
    if (!this.lines.length) return;
    this.uplot = new window.uPlot(this.#options(few, isSmoothed), data, this.plot);
    this.uplot.over.addEventListener("dblclick", () => this.zoom(null));
  }

  #options(few, isSmoothed) {
    const colours = palette();
    return {
      width: Math.max(200, this.plot.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 14, 0, 0],
      cursor: {
        sync: {
          key: "run",
          scales: ["x", null],
          filters: { pub: (type) => type.startsWith("mouse") && !/down|up/.test(type) },
        },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        y: false,
      },
      scales: {
        x: { time: false, range: (_, min, max) => [min, max] },
        y: { range: this.isStacked ? fromZero : padded },
      },
      series: [{}, ...this.#strokes(colours, few, isSmoothed)],
      axes: [this.#axis(colours, true), this.#axis(colours, false)],
      hooks: {
        setCursor: [(uplot) => this.#tell(uplot.cursor.idx)],
        setSelect: [(uplot) => this.#select(uplot)],
      },
    };
  }

  #strokes(colours, few, isSmoothed) {
    const stroke = (line, index, alpha) => ({
      stroke: withAlpha(colours.series[index % colours.series.length], alpha),
      width: alpha < 1 ? 1 : 1.75,
      dash: line.dash,
      spanGaps: true,
      points: { show: alpha === 1 && (this.hasPoints || few), size: 4, width: 1 },
    });
    if (this.isStacked) {
      const areas = this.lines.map((_, index) => ({
        stroke: colours.surface,
        width: 1,
        fill: colours.series[index % colours.series.length],
        points: { show: false },
      }));
      return areas.reverse();
    }
    const full = this.lines.map((line, index) => stroke(line, index, 1));
    return isSmoothed
      ? [...this.lines.map((line, index) => stroke(line, index, 0.28)), ...full]
      : full;
  }

  #axis(colours, isX) {
    const common = {
      stroke: colours.secondary,
      font: '11px system-ui, -apple-system, "Segoe UI", sans-serif',
      grid: { stroke: colours.grid, width: 1, show: !isX },
      ticks: { show: false },
    };
    if (!isX)
      return {
        ...common,
        size: 56,
        gap: 6,
        space: 34,
        values: (_, values) =>
          this.format === figure ? ticks(values) : values.map((value) => this.format(value)),
      };
    const values = (_, places) =>
      places.map((place) =>
        this.axis === "step" ? (Number.isInteger(place) ? figure(place) : "") : clock(place),
      );
    return { ...common, size: 24, gap: 6, space: 60, values };
  }

  #select(uplot) {
    const { left, width } = uplot.select;
    if (width < 4) return;
    this.zoom({ min: uplot.posToVal(left, "x"), max: uplot.posToVal(left + width, "x") });
    uplot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  #drawLegend() {
    const colours = palette();
    this.figures = this.lines.map(() => el("span", { class: "legend-figure" }));
    fill(
      this.legend,
      this.lines.map((line, index) => {
        const swatch = el("span", { class: line.dash ? "swatch dashed" : "swatch" });
        swatch.style.setProperty("--colour", colours.series[index % colours.series.length]);
        return el(
          "span",
          { class: "legend-entry" },
          swatch,
          line.isTitled
            ? null
            : el("span", { class: "legend-label", title: line.label }, line.label),
          this.figures[index],
        );
      }),
    );
  }

  /** The figures at a row, or the last ones. */
  #tell(row) {
    const said = this.lines.map((line, index) => {
      const values = this.means[index];
      const value = row == null ? values.findLast(isNumber) : values[row];
      say(this.figures[index], this.format(value));
      return `${line.label} ${this.format(value)}`;
    });
    if (row == null)
      this.plot.setAttribute(
        "aria-label",
        visible(`${this.title}: ${said.join(", ") || "no figures"}`),
      );
  }

  #resize() {
    const width = this.plot.clientWidth;
    if (this.uplot && width > 50 && width !== this.uplot.width)
      this.uplot.setSize({ width, height: HEIGHT });
  }
}

function stack(columns) {
  let below = [];
  return columns.map(
    (values) => (below = values.map((value, row) => (below[row] ?? 0) + Math.max(0, value ?? 0))),
  );
}

function fromZero(_, __, max) {
  return [0, max > 0 ? max * 1.05 : 1];
}

function padded(_, min, max) {
  if (!isNumber(min) || !isNumber(max)) return [0, 1];
  const room = (max - min || Math.abs(max) || 1) * 0.08;
  const low = min >= 0 && min - room < 0 ? 0 : min - room;
  return [low, max + room];
}

/** Axis figures, written alike and without needless zeros. */
function ticks(values) {
  const largest = Math.max(...values.map(Math.abs));
  const isTiny = largest > 0 && (largest < 0.01 || largest >= 1e6);
  const write = (value) => {
    if (!isTiny || value === 0) return String(Number(value.toPrecision(6)));
    return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
  };
  return values.map((value) => write(value).replaceAll("-", "−"));
}
