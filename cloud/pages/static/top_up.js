// The top-up dialog: an amount, then away to the provider's card page; no card data is seen here.

import { Refused, readTopUp, topUp } from "./api.js";
import { format, parse } from "./money.js";

const OFFERED_IN_CENTS = [1000, 2000, 5000];
const at = (id) => document.getElementById(id);

export function openTopUp(currency, locale) {
  const dialog = at("top-up-dialog");
  // One key for one visit to this dialog: pressing twice, or again after a time-out, pays once.
  const keys = new Map();
  at("amounts").replaceChildren(...OFFERED_IN_CENTS.map((cents) => offer(cents, currency, locale)));
  at("other").value = "";
  show(null);
  at("other").oninput = () => {
    for (const radio of at("amounts").querySelectorAll("input")) radio.checked = false;
  };
  at("cancel").onclick = () => dialog.close();
  at("top-up-form").onsubmit = async (event) => {
    event.preventDefault();
    const cents = chosen();
    if (cents === null) return show("Enter an amount like 25.00.");
    if (!keys.has(cents)) keys.set(cents, newKey());
    at("pay").disabled = true;
    try {
      const payment = await topUp(cents, currency, keys.get(cents));
      window.location.assign(payment.card_page);
    } catch (problem) {
      show(problem instanceof Refused ? problem.message : "No connection. Nothing was charged.");
      at("pay").disabled = false;
    }
  };
  at("pay").disabled = false;
  dialog.showModal();
}

// Back from the card page: what became of it, as soon as the provider has told the cloud.
export async function awaitTopUp(id, patience = 20) {
  for (let tries = 0; tries < patience; tries++) {
    const payment = await readTopUp(id);
    if (payment.status !== "pending") return payment;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  return null;
}

function chosen() {
  const typed = at("other").value.trim();
  if (typed !== "") return parse(typed);
  const radio = at("amounts").querySelector("input:checked");
  return radio === null ? null : Number(radio.value);
}

function offer(cents, currency, locale) {
  const label = document.createElement("label");
  const radio = document.createElement("input");
  radio.type = "radio";
  radio.name = "amount";
  radio.value = String(cents);
  radio.checked = cents === 2000;
  radio.onchange = () => { at("other").value = ""; };
  const text = document.createElement("span");
  text.textContent = format({ amount_in_cents: cents, currency }, locale);
  label.append(radio, text);
  return label;
}

function show(problem) {
  at("top-up-problem").hidden = problem === null;
  at("top-up-problem").textContent = problem || "";
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(18));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
