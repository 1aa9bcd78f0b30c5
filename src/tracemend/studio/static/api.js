// The requests. A refusal is an Error with the server's own words; `conflict` says that somebody was faster.

export class Refused extends Error {
  constructor(message, { conflict = false, offline = false, dropped = false } = {}) {
    super(message);
    this.conflict = conflict;
    this.offline = offline;
    this.dropped = dropped; // by ourselves: nobody waits for it any more
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    throw new Refused("", error.name === "AbortError" ? { dropped: true } : { offline: true });
  }
  let found;
  try {
    found = await answer.json();
  } catch {
    throw new Refused(`${answer.status} ${answer.statusText}`);
  }
  if (!answer.ok) throw new Refused(found.error || answer.statusText, { conflict: found.conflict });
  return found;
}

export function get(name, fields = {}, { signal } = {}) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given.map(([key, v]) => [key, v === true ? "1" : v === false ? "0" : String(v)]));
  return ask(`/api/${name}?${query}`, { signal });
}

export function post(name, fields = {}) {
  return ask(`/api/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
}
