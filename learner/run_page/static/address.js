/** What is shown stands in the address bar: a link opens the same rollout under the same filters. */

export const FILTERS = [
  "step",
  "status",
  "finish_reason",
  "min_reward",
  "max_reward",
  "text",
  "prompt_id",
];

/** `{view: "run" | "rollouts", filters: {name: text}, open: {step, line} | null}` of a `#…`. */
export function parseAddress(hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split("?");
  const given = new URLSearchParams(query);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""]));
  const place = /^(\d{1,12}):(\d{1,12})$/.exec(given.get("open") ?? "");
  const open = place ? { step: Number(place[1]), line: Number(place[2]) } : null;
  return { view: view === "rollouts" ? "rollouts" : "run", filters, open };
}

/** The `#…` of what is shown. */
export function formatAddress({ view, filters, open }) {
  if (view !== "rollouts") return "#run";
  const given = FILTERS.filter((name) => filters[name]).map((name) => [name, filters[name]]);
  if (open) given.push(["open", `${open.step}:${open.line}`]);
  const query = new URLSearchParams(given).toString();
  return query ? `#rollouts?${query}` : "#rollouts";
}
