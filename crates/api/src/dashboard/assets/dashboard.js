// What pages cannot do without a script: times in the reader's own zone, copying, and choosing all.
// A page without it is complete; it shows times in UTC.
"use strict";
(() => {
  const shown = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const exact = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
    second: "2-digit", fractionalSecondDigits: 3, timeZoneName: "short",
  });

  function localize(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      if (!("age" in time.dataset)) time.textContent = shown.format(at);
      time.title = `${exact.format(at)} · ${time.dateTime}`;
      time.dataset.local = "";
    }
    // The axes of charts whose marks are times of day; dates are cut in UTC and stay so.
    for (const mark of root.querySelectorAll(".chart text[data-time]")) {
      mark.textContent = clock.format(new Date(mark.dataset.time));
      mark.ownerSVGElement.querySelector(".zone")?.remove();
    }
  }

  // Fields of times hold UTC. The reader writes in their own zone, and the form is sent in UTC again.
  function localizeField(field) {
    field.dataset.local = "";
    const hint = document.getElementById(`${field.id}-hint`);
    hint.textContent = hint.textContent.replace("UTC", `your time zone, ${exact.resolvedOptions().timeZone}`);
    const served = new Date(`${field.defaultValue}Z`);
    // A browser that comes back to the page may have filled in what the reader had written.
    if (new Date(`${field.value}Z`).getTime() !== served.getTime()) return;
    const local = new Date(served.getTime() - served.getTimezoneOffset() * 60000);
    field.value = local.toISOString().slice(0, 19);
  }

  document.addEventListener("formdata", (event) => {
    for (const field of event.target.querySelectorAll("input[data-utc]")) {
      const at = new Date(field.value);
      if (!Number.isNaN(at.getTime())) event.formData.set(field.name, at.toISOString().replace(/\.\d+Z$/, "Z"));
    }
  });

  function enrich(root) {
    localize(root);
    for (const field of root.querySelectorAll("input[data-utc]:not([data-local])")) localizeField(field);
    if (navigator.clipboard) {
      for (const button of root.querySelectorAll("button[data-copy], button[data-copy-from]")) button.hidden = false;
    }
    for (const all of root.querySelectorAll("input[data-all]")) choose(all);
  }

  // Who wants all types need not choose among them.
  function choose(all) {
    for (const one of all.closest("fieldset").querySelectorAll("input[name=event_types]")) one.disabled = all.checked;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy], button[data-copy-from]");
    if (!button) return;
    const text = button.dataset.copy ?? document.getElementById(button.dataset.copyFrom).textContent;
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Cannot copy";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-all]")) choose(event.target);
  });
  // What was said once is not said again when the page is loaded anew.
  const here = new URL(location.href);
  if (here.searchParams.has("said")) {
    here.searchParams.delete("said");
    history.replaceState(history.state, "", here);
  }

  // A page that cannot be renewed says since when.
  let since = null;
  function stale(failed) {
    const note = document.getElementById("stale");
    if (!failed) {
      since = null;
      note?.remove();
      return;
    }
    since ??= new Date();
    if (note) return;
    const told = document.createElement("p");
    told.id = "stale";
    told.className = "stale";
    told.setAttribute("role", "status");
    told.textContent = `Not renewed since ${shown.format(since)}: the server does not answer as it should.`;
    document.querySelector("main").prepend(told);
  }
  for (const failure of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(failure, () => stale(true));
  document.addEventListener("htmx:afterRequest", (event) => {
    const status = event.detail.xhr?.status ?? 0;
    if (status >= 429) stale(true);
    else if (status > 0) stale(false);
  });

  document.addEventListener("htmx:load", (event) => enrich(event.detail.elt.parentElement ?? event.detail.elt));
  enrich(document);
})();
