// The requests. A refusal is an Error with the server's own words; `conflict` says that somebody was faster.

export class Refused extends Error {
  constructor(message, { conflict = false, offline = false } = {}) {
    super(message);
    this.conflict = conflict;
    this.offline = offline;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Refused("", { offline: true });
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

export function get(name, fields = {}) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given.map(([key, v]) => [key, v === true ? "1" : v === false ? "0" : String(v)]));
  return ask(`/api/${name}?${query}`);
}

export function post(name, fields = {}) {
  return ask(`/api/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
}
