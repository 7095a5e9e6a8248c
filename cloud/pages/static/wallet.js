// The attendee's wallet: balance, a fresh payment code, and what was bought a moment ago.

import { Refused, newCode, readWallet, signIn, signOut, watchWallet } from "./api.js";
import { draw, wipe } from "./code.js";
import { format } from "./money.js";
import { awaitTopUp, openTopUp } from "./top_up.js";

const EARLY_S = 25; // a new code is fetched this long before the old one ends
const RETRY_S = 3;
const at = (id) => document.getElementById(id);

let wallet = null;
let code = null; // {digits, event_id, ends_ms}: the phone's own clock, from when it arrived
let fetching = false;
let retryAfter = 0;
let stopWatching = null;

async function start() {
  const link = new URLSearchParams(window.location.hash.slice(1)).get("sign-in");
  const payment = new URLSearchParams(window.location.search).get("topup");
  try {
    if (link !== null) await useLink(link);
    await refreshWallet();
  } catch {
    // No connection: the address still holds the link, and the link is still unused.
    at("offline").hidden = false;
    setTimeout(start, RETRY_S * 1000);
    return;
  }
  at("offline").hidden = true;
  window.history.replaceState(null, "", "/");
  if (wallet === null) return;
  watch();
  setInterval(tick, 250);
  keepAwake();
  if (payment !== null) await greet(payment);
}

async function useLink(link) {
  try {
    await signIn(link);
  } catch (problem) {
    if (!(problem instanceof Refused)) throw problem;
    // Used up perhaps by this very phone: then it is signed in, and nobody reads this.
    at("sign-in-problem").textContent = problem.message;
    at("sign-in-problem").hidden = false;
  }
}

async function refreshWallet() {
  let fresh;
  try {
    fresh = await readWallet();
  } catch (problem) {
    if (!(problem instanceof Refused)) throw problem;
    if (problem.status === 401) leave();
    return;
  }
  const newest = fresh.recent[0];
  const isNew = wallet !== null && newest && newest.id !== wallet.recent[0]?.id;
  wallet = fresh;
  show();
  if (isNew) {
    const sum = format(newest.amount, locale());
    const where = newest.place ? ` at ${newest.place}` : "";
    toast(newest.direction === "out" ? `Paid ${sum}${where}` : `${sum} added`);
    await refreshCode();
  }
}

// Without a connection what is shown stays; the next change, or the next look, asks again.
const lookAgain = () => refreshWallet().catch(() => undefined);

async function refreshCode() {
  const event = currentEvent();
  if (event === null || fetching) return;
  fetching = true;
  try {
    const asked = Date.now();
    const answer = await newCode(event.id);
    // Counted from before the question: the code never looks good for longer than it is.
    code = { ...answer, ends_ms: asked + answer.lifetime_s * 1000 };
    retryAfter = 0;
    drawCode();
  } catch (problem) {
    retryAfter = Date.now() + RETRY_S * 1000;
    if (problem instanceof Refused && problem.status === 401) leave();
  } finally {
    fetching = false;
  }
}

function drawCode() {
  const room = Math.min(at("card").parentElement.clientWidth - 8, 380);
  draw(at("qr"), code.digits, room);
  at("qr").dataset.ends = String(code.ends_ms);
  tick();
}

function tick() {
  if (wallet === null || document.hidden) return;
  const event = currentEvent();
  const left = code === null ? 0 : (code.ends_ms - Date.now()) / 1000;
  const stale = code === null || code.event_id !== event?.id || left < EARLY_S;
  if (stale && Date.now() >= retryAfter) refreshCode();
  const usable = code !== null && left > 0 && code.event_id === event?.id;
  at("life").style.transform = `scaleX(${usable ? Math.min(left / code.lifetime_s, 1) : 0})`;
  at("veil").hidden = usable;
  if (!usable) {
    wipe(at("qr"));
    const waits = retryAfter > 0;
    at("veil-text").textContent = event === null ? "No event is open just now."
      : waits ? "No connection. Your money is safe." : "Fetching your code…";
    at("retry").hidden = event === null || !waits;
  }
  at("hint").textContent = usable && retryAfter > 0
    ? `No connection: this code works for another ${Math.ceil(left)} s`
    : "Hold this up to the stall’s camera";
}

function show() {
  at("signed-out").hidden = true;
  at("wallet").hidden = at("sign-out").hidden = false;
  const event = currentEvent();
  const balance = currentBalance();
  at("balance").textContent = format(balance, locale());
  at("debt").hidden = balance.amount_in_cents >= 0;
  at("top-up").hidden = !wallet.top_up;
  const several = wallet.events.length > 1;
  at("event").hidden = !several;
  at("event-name").hidden = several;
  at("event-name").textContent = event === null ? "" : event.name;
  if (several && at("event").options.length !== wallet.events.length) {
    at("event").replaceChildren(...wallet.events.map((each) => new Option(each.name, each.id)));
  }
  at("nothing").hidden = wallet.recent.length > 0;
  at("recent").replaceChildren(...wallet.recent.map(row));
}

function row(entry) {
  const item = document.createElement("li");
  const title = document.createElement("span");
  title.textContent = entry.title;
  const sum = document.createElement("span");
  sum.className = `sum ${entry.direction}`;
  const sign = entry.direction === "out" ? "−" : "+";
  sum.textContent = `${sign}${format(entry.amount, locale())}`;
  const time = document.createElement("time");
  time.dateTime = new Date(entry.at_ms).toISOString();
  const style = { hour: "2-digit", minute: "2-digit", day: "numeric", month: "short" };
  time.textContent = new Date(entry.at_ms).toLocaleString(locale().replace("_", "-"), style);
  item.append(title, sum, time);
  return item;
}

function currentEvent() {
  const chosen = wallet.events.find((each) => each.id === at("event").value);
  return chosen || wallet.events[0] || null;
}

function currentBalance() {
  const currency = currentEvent()?.currency || wallet.balances[0]?.currency || "EUR";
  const found = wallet.balances.find((each) => each.currency === currency);
  return found || { amount_in_cents: 0, currency };
}

const locale = () => currentEvent()?.locale || navigator.language;

function watch() {
  stopWatching?.();
  stopWatching = watchWallet(lookAgain, () => setTimeout(() => {
    lookAgain();
    if (wallet !== null) watch();
  }, RETRY_S * 1000));
}

async function greet(payment) {
  try {
    const ended = await awaitTopUp(payment);
    await refreshWallet();
    if (ended === null) toast("Your bank is still thinking. The money appears here by itself.", false);
    else if (ended.status === "paid") toast(`${format(ended.amount, locale())} added`);
    else toast("The card was declined. Nothing was charged.", false);
  } catch (problem) {
    if (!(problem instanceof Refused)) toast("No connection. The money appears by itself.", false);
  }
}

function leave() {
  stopWatching?.();
  wallet = code = null;
  at("wallet").hidden = at("sign-out").hidden = true;
  at("signed-out").hidden = false;
}

let fading = 0;
function toast(text, isDone = true) {
  clearTimeout(fading);
  at("toast").classList.toggle("plain", !isDone);
  at("toast").textContent = text;
  at("toast").classList.add("shown");
  fading = setTimeout(() => at("toast").classList.remove("shown"), 5000);
}

// A screen that goes dark in the queue costs everyone time; where the phone refuses, so be it.
async function keepAwake() {
  if (document.hidden || !navigator.wakeLock) return;
  await navigator.wakeLock.request("screen").catch(() => undefined);
}

at("top-up").onclick = () => openTopUp(currentBalance().currency, locale());
at("retry").onclick = () => { retryAfter = 0; tick(); };
at("event").onchange = () => { show(); tick(); };
at("sign-out").onclick = async () => { await signOut().catch(() => undefined); leave(); };
window.addEventListener("resize", () => { if (code !== null) drawCode(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden || wallet === null) return;
  lookAgain();
  tick();
  keepAwake();
});

start();
