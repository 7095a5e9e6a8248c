// What the page asks the cloud; a refusal carries the problem document (RFC 9457) it came with.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || "The server did not answer as expected.");
    this.status = status;
    this.code = problem.code || "";
  }
}

async function ask(method, path, body, headers = {}) {
  const response = await fetch(path, {
    method,
    credentials: "same-origin",
    cache: "no-store",
    headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export const signIn = (link) => ask("POST", "/v1/session", { link });
export const signOut = () => ask("DELETE", "/v1/session");
export const readWallet = () => ask("GET", "/v1/wallet");
export const newCode = (event) => ask("POST", "/v1/wallet/qr", { event_id: event });
export const readTopUp = (id) => ask("GET", `/v1/topups/${encodeURIComponent(id)}`);
export const topUp = (cents, currency, key) =>
  ask("POST", "/v1/topups", { amount_in_cents: cents, currency }, { "Idempotency-Key": key });

// Calls `changed` after every change of the wallet, and `lost` when nothing says so any more.
export function watchWallet(changed, lost) {
  const source = new EventSource("/v1/wallet/changes");
  source.addEventListener("changed", changed);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) lost();
  });
  return () => source.close();
}
