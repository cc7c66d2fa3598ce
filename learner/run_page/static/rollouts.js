/** The reader of rollouts: filters, the table that grows page by page, and the one that is open. */

import { get } from "./api.js";
import { el, fill, say } from "./dom.js";
import { Filters } from "./filters.js";
import { whole } from "./format.js";
import { RolloutPanel } from "./rollout.js";
import { RolloutTable } from "./rollout_table.js";

const PAGE = 50;

export class Rollouts {
  /** `went`: called with what the address bar should say, {filters, open}. */
  constructor(element, went) {
    this.went = went;
    this.open = null;
    this.filters = new Filters((filters) => went({ filters, open: this.open }, { isTyped: true }));
    this.table = new RolloutTable((open) => went({ filters: this.asked, open }));
    this.panel = new RolloutPanel({
      closed: () => went({ filters: this.asked, open: null }),
      opened: (open) => went({ filters: this.asked, open }, { isTyped: true }),
      moved: (by) => this.move(by),
      samePrompt: (prompt_id) =>
        went({ filters: { ...emptied(this.asked), prompt_id }, open: this.open }),
    });
    this.count = el("span", { class: "count", role: "status" });
    this.newer = el(
      "button",
      { type: "button", class: "quiet invisible", onclick: () => this.#search() },
      "Show newer",
    );
    this.more = el(
      "button",
      { type: "button", class: "more", onclick: () => this.#goOn() },
      "More",
    );
    this.stop = el(
      "button",
      { type: "button", class: "more", onclick: () => this.#stop() },
      "Stop",
    );
    this.message = el("p", { class: "empty-line" });
    const list = el(
      "div",
      { class: "list" },
      this.table.element,
      this.message,
      el("div", { class: "list-end" }, this.more, this.stop),
    );
    this.reader = el("div", { class: "reader" }, list, this.panel.element);
    const keys = el(
      "span",
      { class: "keys" },
      el("kbd", {}, "j"),
      " ",
      el("kbd", {}, "k"),
      " next, previous  ",
      el("kbd", {}, "/"),
      " search  ",
      el("kbd", {}, "Esc"),
      " close",
    );
    fill(
      element,
      this.filters.element,
      el("div", { class: "list-head" }, this.count, this.newer, keys),
      this.reader,
    );
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show what the address says; asks the server only for what is not here yet. */
  show({ filters, open }) {
    this.isShown = true;
    const isNew = JSON.stringify(filters) !== JSON.stringify(this.asked);
    this.asked = filters;
    this.filters.set(filters);
    if (isNew) this.#search();
    this.#open(open);
  }

  hide() {
    this.isShown = false;
  }

  /** The run has got to `step`: newer rollouts may be asked for. */
  notice(step) {
    this.newer.classList.toggle(
      "invisible",
      !(this.steps && step > this.steps[1] && !this.asked?.step),
    );
  }

  /** Open the next (+1) or previous (−1) row of the table, or of the file where the table lacks it. */
  async move(by) {
    const here = this.table.indexOf(this.open);
    if (this.open && here === -1) {
      const place = this.panel.neighbour(by);
      if (place) this.went({ filters: this.asked, open: place }, { isTyped: true });
      return;
    }
    const wanted = this.open ? here + by : 0;
    if (wanted >= this.table.rows.length && this.next && !this.isSearching) await this.#goOn();
    const row = this.table.rows[wanted];
    if (row)
      this.went(
        { filters: this.asked, open: { step: row.step, line: row.line } },
        { isTyped: Boolean(this.open) },
      );
  }

  #open(open) {
    const isOther = JSON.stringify(open) !== JSON.stringify(this.open);
    this.open = open;
    this.reader.classList.toggle("is-open", Boolean(open));
    this.table.mark(open);
    if (!open) this.panel.close();
    else if (isOther) this.panel.open(open);
  }

  async #search() {
    this.newer.classList.add("invisible");
    this.#stop();
    this.table.clear();
    this.next = null;
    await this.#goOn();
    this.table.mark(this.open);
  }

  /** Ask on until a page of rows is here; the server may answer in parts. */
  async #goOn() {
    const search = new AbortController();
    this.search = search;
    this.isSearching = true;
    const wanted = this.table.rows.length + PAGE;
    try {
      do {
        const limit = Math.min(PAGE, wanted - this.table.rows.length);
        const answer = await get(
          "rollouts",
          { ...this.asked, before: this.next, limit },
          search.signal,
        );
        this.#take(answer);
        if (!answer.is_partial) break;
      } while (this.next && this.table.rows.length < wanted);
      this.failure = "";
    } catch (error) {
      if (search.signal.aborted) return;
      this.failure = error.message;
    }
    this.isSearching = false;
    this.#tell();
  }

  #take(answer) {
    for (const row of answer.rows) this.filters.learnStatus(row.status);
    this.table.add(answer.rows);
    Object.assign(this, {
      next: answer.next,
      scannedTo: answer.scanned_to,
      total: answer.num_rollouts,
      isCounted: answer.is_counted ?? true,
      steps: answer.steps,
    });
    this.#tell();
  }

  #stop() {
    this.search?.abort();
    this.isSearching = false;
    this.#tell();
  }

  #tell() {
    const found = this.table.rows.length;
    const isFiltered = Object.values(this.asked ?? {}).some(Boolean);
    const asked = this.asked?.step;
    const ends = asked ? `step ${asked}` : this.steps ? `steps ${whole(this.steps[0])} to ${whole(this.steps[1])}` : "";
    this.more.hidden = this.isSearching || !this.next;
    this.more.textContent = isFiltered ? "Search on" : "More";
    this.stop.hidden = !(this.isSearching && this.next);
    if (this.isSearching)
      say(
        this.count,
        this.scannedTo && this.next
          ? `${whole(found)} found, looking through step ${whole(this.scannedTo)}…`
          : "looking…",
      );
    else if (!this.total) say(this.count, "");
    else if (isFiltered)
      say(
        this.count,
        this.next
          ? `${whole(found)} found down to step ${whole(this.scannedTo)}`
          : `${whole(found)} found in ${ends}`,
      );
    else
      say(
        this.count,
        `${whole(found)} of ${this.isCounted ? "" : "more than "}${whole(this.total)} rollouts, newest first; ${ends}`,
      );
    say(this.message, this.#emptyText(isFiltered));
    this.message.hidden = found > 0 && !this.failure;
  }

  #emptyText(isFiltered) {
    if (this.failure) return `The server did not answer this: ${this.failure}`;
    if (this.isSearching) return "";
    if (!this.total) return "No rollouts yet. They come with the first step that was trained on.";
    if (this.next) return "None so far. “Search on” looks through older steps.";
    return isFiltered ? "No rollout is like this. Clear a filter, or widen the range." : "";
  }

  #key(event) {
    if (!this.isShown || event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape") {
      if (isTyping) event.target.blur();
      else if (this.open) this.went({ filters: this.asked, open: null });
    } else if (isTyping) return;
    else if (event.key === "j") this.move(1);
    else if (event.key === "k") this.move(-1);
    else if (event.key === "/") {
      event.preventDefault();
      this.filters.focus();
    }
  }
}

function emptied(filters) {
  return Object.fromEntries(Object.keys(filters).map((name) => [name, ""]));
}
