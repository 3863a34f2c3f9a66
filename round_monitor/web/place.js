// What the address says is looked at: #federation=ward-7&client=watch-03. So a client can be linked to, and the
// browser's way back works.

/** `{ federation, client }`, each "" where it names none; null where it only names a part of the page. */
export function placeOf(hash) {
  const words = new URLSearchParams(hash.slice(1));
  if (hash.length > 1 && !hash.includes("=")) return null;
  return { federation: words.get("federation") ?? "", client: words.get("client") ?? "" };
}

export function hashOf(federation, client = "") {
  return `#${new URLSearchParams({ ...(federation && { federation }), ...(client && { client }) })}`;
}
