// Money on the page: integer cents in, integer cents out; never a sum of floats.

export function format(money, locale) {
  const sign = money.amount_in_cents < 0 ? "-" : "";
  const cents = String(Math.abs(money.amount_in_cents)).padStart(3, "0");
  const decimal = `${sign}${cents.slice(0, -2)}.${cents.slice(-2)}`;
  const style = { style: "currency", currency: money.currency };
  return new Intl.NumberFormat(locale.replace("_", "-"), style).format(decimal);
}

// "25", "25.5" or "25,50" -> cents; null for anything else.
export function parse(text) {
  const match = /^(\d{1,6})(?:[.,](\d{1,2}))?$/.exec(text.trim());
  return match ? Number(match[1]) * 100 + Number((match[2] || "").padEnd(2, "0")) : null;
}
