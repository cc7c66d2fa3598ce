/** Asks the server for news every two seconds: while somebody looks, and while there can be any. */

import { get, Unreachable } from "./api.js";
import { Series } from "./series.js";

const INTERVAL_MS = 2000;

export class Poll {
  /** `told({run, series, hasNewRows, failure, isLost})`: after every answer, and when there was none. */
  constructor(told) {
    this.told = told;
    this.series = new Series();
    this.run = null;
    document.addEventListener("visibilitychange", () => this.#wake());
    this.#ask();
  }

  async #ask() {
    this.isAsking = true;
    const news = { hasNewRows: false, failure: "", isLost: false };
    try {
      this.run = await get("run");
      news.hasNewRows = await this.#askSeries();
    } catch (error) {
      news.failure = error.message;
      news.isLost = error instanceof Unreachable;
    }
    this.isAsking = false;
    const isOver = Boolean(this.run?.is_finished && (!this.run.is_live || news.isLost));
    this.told({ ...news, run: this.run, series: this.series, isOver });
    this.isOver = isOver && !(news.failure && !this.series.length);
    this.timer = setTimeout(() => this.#wake(), INTERVAL_MS);
  }

  #wake() {
    if (document.hidden || this.isAsking || this.isOver) return;
    clearTimeout(this.timer);
    this.#ask();
  }

  /** Rows after the last one; all of them at the start, and where a resumed run has cut rows. */
  async #askSeries() {
    const isFirst = this.series.token === null;
    if (!isFirst && !this.series.isLong) {
      const answer = await get("series", { after: this.series.lastStep });
      if (answer.token === this.series.token) {
        return this.series.add(answer);
      }
    }
    const fresh = new Series();
    fresh.add(await get("series"));
    this.series = fresh;
    return true;
  }
}
