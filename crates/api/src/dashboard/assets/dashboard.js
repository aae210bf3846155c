// Progressive enhancement: times in the user's time zone, copy buttons, the "All" checkbox, and a
// note when a page is stale. Pages work without scripts; times are then in UTC.
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
    // Chart axes with times of day. Axes with dates stay in UTC, because their days begin in UTC.
    for (const mark of root.querySelectorAll(".chart text[data-time]")) {
      mark.textContent = clock.format(new Date(mark.dataset.time));
      mark.ownerSVGElement.querySelector(".zone")?.remove();
    }
  }

  // Time fields are rendered in UTC. Users edit them in local time, and the form is submitted in
  // UTC.
  function localizeField(field) {
    field.dataset.local = "";
    const hint = document.getElementById(`${field.id}-hint`);
    hint.textContent = hint.textContent.replace("UTC", `your time zone, ${exact.resolvedOptions().timeZone}`);
    const served = new Date(`${field.defaultValue}Z`);
    // After going back to a page, the browser may have restored the user's local time.
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

  // Selecting all event types disables the individual checkboxes.
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
      button.textContent = "Copy failed";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-all]")) choose(event.target);
  });
  // Show a flash message only once, not again on reload.
  const here = new URL(location.href);
  if (here.searchParams.has("flash")) {
    here.searchParams.delete("flash");
    history.replaceState(history.state, "", here);
  }

  // Show since when the page could not be refreshed.
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
    const banner = document.createElement("p");
    banner.id = "stale";
    banner.className = "stale";
    banner.setAttribute("role", "status");
    banner.textContent = `Not updated since ${shown.format(since)}: the server is not responding.`;
    document.querySelector("main").prepend(banner);
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
