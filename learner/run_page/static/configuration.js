/** The resolved configuration as an indented list, folded away until it is asked for. */

import { el, fill } from "./dom.js";

export class Configuration {
  constructor() {
    this.text = el("pre", { class: "config", tabindex: "0" });
    this.element = el(
      "details",
      { class: "card full" },
      el("summary", {}, el("h3", {}, "Configuration")),
      this.text,
    );
    this.shown = "";
  }

  show(config) {
    const text = lines(config, 0).join("\n");
    if (text === this.shown) return;
    this.shown = text;
    fill(this.text, text);
  }
}

function lines(value, depth) {
  const indent = "  ".repeat(depth);
  if (Array.isArray(value))
    return value.flatMap((item) =>
      isTree(item)
        ? [`${indent}-`, ...lines(item, depth + 1)]
        : [`${indent}- ${JSON.stringify(item)}`],
    );
  return Object.entries(value ?? {}).flatMap(([key, item]) =>
    isTree(item)
      ? [`${indent}${key}:`, ...lines(item, depth + 1)]
      : [`${indent}${key}: ${scalar(item)}`],
  );
}

function isTree(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

function scalar(value) {
  return typeof value === "string" && /^[\w./:?=-]+$/.test(value) ? value : JSON.stringify(value);
}
