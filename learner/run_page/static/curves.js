/** The charts of the run, and what is set for all of them: smoothing, axis, zoom. */

import { Chart } from "./chart.js";
import { CARDS, keyLines } from "./cards.js";
import { el, fill } from "./dom.js";
import { onThemeChange } from "./palette.js";

export class Curves {
  constructor() {
    this.weight = 0.6;
    this.axis = "step";
    this.window = null;
    this.picked = "reward/std";
    const zoom = (window) => this.#zoom(window);
    this.cards = CARDS.map((card) => ({ ...card, chart: new Chart({ ...card, zoom }) }));
    this.any = new Chart({
      title: "Any figure",
      hint: "One column of metrics.jsonl",
      isWide: true,
      zoom,
      emptyText: "Choose a figure above.",
    });
    this.picker = el("select", {
      "aria-label": "Figure to chart",
      onchange: () => this.#pick(this.picker.value),
    });
    this.any.element.querySelector(".card-head").after(this.picker);
    this.element = el("div", {}, this.#controls());
    onThemeChange(() => {
      for (const chart of this.#charts()) chart.repaint();
      this.draw();
    });
  }

  /** The cards of a section: learning, health or time. */
  grid(section) {
    const cards = this.cards.filter((card) => card.section === section);
    return el(
      "div",
      { class: "grid" },
      cards.map((card) => card.chart.element),
    );
  }

  show(series, run) {
    this.series = series;
    this.run = run;
    this.#fillPicker();
    this.draw();
  }

  draw() {
    if (!this.series) return;
    const ends = { axis: this.axis, range: this.window ?? this.#range() };
    for (const { chart, keys, lines, isRaw } of this.cards) {
      const shown = lines
        ? lines(this.series, this.axis, this.run)
        : keyLines(this.series, this.axis, keys);
      chart.show(shown, { ...ends, weight: isRaw ? 0 : this.weight });
    }
    this.any.show(this.picked ? keyLines(this.series, this.axis, [this.picked]) : [], {
      ...ends,
      weight: this.weight,
    });
    this.reset.classList.toggle("invisible", !this.window);
  }

  #charts() {
    return [...this.cards.map((card) => card.chart), this.any];
  }

  #range() {
    const places = this.series.places(this.axis);
    const first = this.axis === "step" ? Math.min(0, places[0] ?? 0) : 0;
    return { min: first, max: Math.max(places.at(-1) ?? 1, first + 1) };
  }

  #zoom(window) {
    this.window = window;
    this.draw();
  }

  #pick(key) {
    this.picked = key;
    this.draw();
  }

  #fillPicker() {
    const keys = this.series.keys();
    if (keys.length + 1 === this.picker.options.length) return;
    fill(
      this.picker,
      el("option", { value: "" }, "choose a figure…"),
      keys.map((key) => el("option", { value: key }, key)),
    );
    this.picker.value = this.picked;
  }

  #controls() {
    const slider = el("input", {
      type: "range",
      min: "0",
      max: "0.98",
      step: "0.02",
      value: String(this.weight),
      "aria-label": "Smoothing",
    });
    const shown = el("output", { class: "slider-figure" });
    slider.addEventListener("input", () => {
      this.weight = Number(slider.value);
      fill(shown, this.weight ? this.weight.toFixed(2) : "off");
      this.draw();
    });
    fill(shown, this.weight.toFixed(2));
    this.reset = el(
      "button",
      { type: "button", class: "quiet invisible", onclick: () => this.#zoom(null) },
      "Show all",
    );
    return el(
      "div",
      { class: "controls" },
      this.reset,
      el("label", {}, "Smoothing", slider, shown),
      this.#axisChoice(),
    );
  }

  #axisChoice() {
    const choice = el("div", { class: "segments", role: "group", "aria-label": "Axis" });
    for (const [axis, label] of [
      ["step", "Steps"],
      ["time", "Time"],
    ]) {
      const choose = () => {
        this.axis = axis;
        this.window = null;
        for (const button of choice.children)
          button.setAttribute("aria-pressed", String(button === chosen));
        this.draw();
      };
      const chosen = el(
        "button",
        { type: "button", "aria-pressed": String(axis === this.axis), onclick: choose },
        label,
      );
      choice.append(chosen);
    }
    return choice;
  }
}
