/** The run's JSON, by GET, from the server that sent this page and no other. */

const PATIENCE_MS = 20_000;

/** Nobody answers: the learner has gone, or its machine sleeps. */
export class Unreachable extends Error {}

/** The server said why it will not. */
export class Refused extends Error {}

/**
 * The answer to `/api/<name>`; parameters that are empty are left out.
 *
 * Throws Unreachable, Refused, or AbortError where `signal` was used.
 */
export async function get(name, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(given).toString();
  const ends = AbortSignal.timeout(PATIENCE_MS);
  const until = signal ? AbortSignal.any([signal, ends]) : ends;
  let response, body;
  try {
    response = await fetch(`/api/${name}${query ? `?${query}` : ""}`, { signal: until });
    body = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(`no answer to /api/${name}`);
  }
  if (!response.ok) throw new Refused(String(body?.error ?? `status ${response.status}`));
  return body;
}
