// A run that was begun from a page and has written nothing yet: its own page takes the place of this one when it has.

import { getJSON, postJSON, shown } from "./api.js";
import { $, say } from "./dom.js";

const AGAIN_MS = 1000;
const job = $("#waiting").dataset.job;

const look = shown(async () => {
  const { state, begun } = await getJSON(`/api/jobs/${job}`);
  if (begun || !["queued", "running"].includes(state)) return location.reload();
  say($("#doing"), state === "queued" ? "It waits for its turn." : "It starts; the network is being loaded.");
  return setTimeout(look, AGAIN_MS);
});

if (job) {
  $("#cancel").addEventListener("click", shown(() => postJSON(`/api/jobs/${job}/cancel`)));
  look();
}
