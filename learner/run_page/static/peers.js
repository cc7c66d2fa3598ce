/** Who takes part, and what each is doing now; what the logs warned of. */

import { el, fill } from "./dom.js";
import { bytes, duration, figure, isNumber, moment, percent, whole } from "./format.js";

const COLUMNS = ["Peer", "Role", "Host", "Doing", "Version", "Heard"];

export class Peers {
  constructor() {
    this.element = el("section", { class: "card full", "aria-label": "Peers" });
  }

  show(run, isLost) {
    const rows = run.peers.map((peer) => row(peer));
    const head = el(
      "tr",
      {},
      COLUMNS.map((name) => el("th", { scope: "col" }, name)),
      el("th", { scope: "col" }, "Figures"),
    );
    const table = el(
      "div",
      { class: "scroll" },
      el("table", { class: "peers" }, el("thead", {}, head), el("tbody", {}, rows)),
    );
    fill(
      this.element,
      el("div", { class: "card-head" }, el("h3", {}, "Peers"), groups(run)),
      rows.length ? table : el("p", { class: "empty-line" }, emptyText(run, isLost)),
    );
  }
}

function row(peer) {
  const state = peer.is_connected ? peer.state : "not connected";
  return el(
    "tr",
    { class: peer.is_connected ? null : "gone" },
    el("td", { class: "mono" }, peer.name),
    el("td", {}, peer.role.replaceAll("_", " ")),
    el("td", {}, peer.host),
    el("td", {}, el("span", { class: "dot" }), state),
    el("td", { class: "number" }, peer.policy_version < 0 ? "–" : whole(peer.policy_version)),
    el(
      "td",
      { class: "number" },
      isNumber(peer.heard_seconds_ago) ? `${duration(peer.heard_seconds_ago)} ago` : "–",
    ),
    el(
      "td",
      { class: "figures" },
      Object.entries(peer.figures).map(([name, value]) =>
        el(
          "span",
          {},
          el("span", { class: "figure-name" }, name.replaceAll("_", " ")),
          named(name, value),
        ),
      ),
    ),
  );
}

/** A figure in its unit, which its name tells. */
function named(name, value) {
  if (/bytes/.test(name)) return bytes(value);
  if (/seconds$/.test(name)) return duration(value);
  if (/share|fraction|idle/.test(name) && value <= 1) return percent(value);
  return figure(value);
}

function groups(run) {
  if (!run.groups) return null;
  const told = Object.entries(run.groups).map(([state, n]) =>
    el("span", {}, state.replaceAll("_", " "), el("b", {}, whole(n))),
  );
  return el(
    "div",
    { class: "groups", title: "Groups of the ledger by state" },
    el("span", {}, "groups:"),
    told,
  );
}

function emptyText(run, isLost) {
  if (run.is_finished) return "The run is complete: its actors and reward workers have left.";
  if (isLost) return "Unknown: the learner does not answer.";
  if (run.is_live)
    return "Nobody has joined yet. Start an actor and a reward worker; the learner waits for them.";
  return "This page reads the run folder, which does not say who takes part. While the run lives, the learner's own HTTP port shows it.";
}

export class Warnings {
  constructor() {
    this.element = el("section", { class: "card full", "aria-label": "Last warnings" });
  }

  show(run) {
    const entries = run.warnings
      .toReversed()
      .map(({ time, process, text, count }) =>
        el(
          "li",
          {},
          el("time", {}, moment(time)),
          el("span", { class: "mono" }, process),
          el("span", { class: "warning-text" }, count > 1 ? `${text} (${count} times)` : text),
        ),
      );
    fill(
      this.element,
      el(
        "div",
        { class: "card-head" },
        el("h3", {}, "Last warnings"),
        el("span", { class: "note" }, entries.length ? "newest first" : ""),
      ),
      entries.length
        ? el("ol", { class: "warnings" }, entries)
        : el("p", { class: "empty-line" }, "None in logs/."),
    );
  }
}
