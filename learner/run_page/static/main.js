/** Puts the page together: what the address bar says decides the view, the poll brings the news. */

import { formatAddress, parseAddress } from "./address.js";
import { fill } from "./dom.js";
import { Header } from "./header.js";
import { Poll } from "./poll.js";
import { Rollouts } from "./rollouts.js";
import { RunView } from "./run_view.js";

const byId = (id) => document.getElementById(id);
const views = { run: byId("run-view"), rollouts: byId("rollouts-view") };
const banner = byId("banner");
const header = new Header(byId("header"));
const runView = new RunView(views.run);
const rollouts = new Rollouts(views.rollouts, go);
let heard = new Date();
let news = null;
let drawn = null;

/** To another place of the reader; what is typed or walked through leaves no trail of its own. */
function go({ filters, open }, { isTyped = false } = {}) {
  const address = formatAddress({ view: "rollouts", filters, open });
  history[isTyped ? "replaceState" : "pushState"](null, "", address);
  showAddress();
}

function showAddress() {
  const place = parseAddress(location.hash);
  for (const [name, view] of Object.entries(views)) view.hidden = name !== place.view;
  header.showView(place.view);
  if (place.view === "rollouts") rollouts.show(place);
  else {
    rollouts.hide();
    drawSeries();
  }
}

function show(latest) {
  news = latest;
  const { run, series, failure, isLost, isOver } = latest;
  if (!failure) heard = new Date();
  say(latest);
  if (!run) return;
  header.show(run, isLost);
  runView.showRun(run, isLost);
  rollouts.notice(series.lastStep);
  if (latest.hasNewRows) drawn = null;
  if (!isOver || !drawn) drawSeries();
}

/** Charts are drawn only where they can be seen: a hidden one has no width. */
function drawSeries() {
  if (!news?.run || views.run.hidden || drawn === news.series) return;
  drawn = news.series;
  runView.showSeries(news.series, news.run);
}

function say({ run, failure, isLost }) {
  banner.hidden = !failure;
  if (!failure) return;
  const since = heard.toLocaleTimeString();
  if (isLost && run?.is_finished)
    fill(
      banner,
      `The run is complete and its learner has ended. To read its rollouts: mlx-view ${run.run_dir}`,
    );
  else if (isLost)
    fill(
      banner,
      `Connection lost at ${since}: the run has ended or its machine sleeps. Trying again every 2 s.`,
    );
  else fill(banner, `The server cannot read the run: ${failure}`);
}

addEventListener("hashchange", showAddress);
addEventListener("popstate", showAddress);
showAddress();
new Poll(show);
