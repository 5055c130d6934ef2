// Puts the newest state of the page in place, a moment after the last one came.
"use strict";

const live = document.getElementById("live");
const stale = document.getElementById("stale");

async function refresh() {
  try {
    const reply = await fetch(live.dataset.source, { credentials: "same-origin" });
    if (reply.status === 401) {
      location.href = "/login";
      return;
    }
    if (!reply.ok) {
      throw new Error(reply.statusText);
    }
    live.innerHTML = await reply.text();
    stale.hidden = true;
  } catch {
    stale.hidden = false;
  }
  setTimeout(refresh, 1500);
}

setTimeout(refresh, 1500);
