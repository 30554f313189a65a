// What a page can do better with a script; without it everything works too.
"use strict";

// The table keeps itself up to date: the server says that something changed, and the page asks for what it shows.
const live = document.querySelector("[data-live]");
if (live) {
  const said = document.querySelector("[data-said]");
  const bar = document.querySelector("[data-bulk-bar]");
  let asking = false, again = false, pending = count();

  function count() {
    return Number(live.querySelector("[data-count]")?.dataset.count ?? 0);
  }

  // What a person is doing must survive the exchange: ticks, the focus, opened text.
  function exchange(html) {
    const ticked = new Set([...live.querySelectorAll("input[name=mac]:checked")].map((box) => box.value));
    const known = new Set([...live.querySelectorAll("th .mac")].map((link) => link.textContent));
    const focus = live.contains(document.activeElement) ? document.activeElement : null;
    const same = focus && [focus.tagName.toLowerCase(), focus.getAttribute("aria-label"), focus.getAttribute("href"), focus.value];
    live.innerHTML = html;
    localise(live);
    for (const box of live.querySelectorAll("input[name=mac]")) box.checked = ticked.has(box.value);
    for (const link of live.querySelectorAll("th .mac")) {
      if (!known.has(link.textContent)) link.closest("tr").classList.add("fresh");
    }
    if (same) {
      const [tag, label, href, value] = same;
      [...live.querySelectorAll(tag)]
        .find((one) => one.getAttribute("aria-label") === label && one.getAttribute("href") === href && one.value === value)
        ?.focus({ preventScroll: true });
    }
    const now = count();
    if (said && now !== pending) said.textContent = now === 1 ? "1 phone is pending" : `${now} phones are pending`;
    pending = now;
    offerAll();
    offerBulk();
  }

  // In the way while nothing is ticked.
  function offerBulk() {
    if (bar) bar.hidden = !live.querySelector("input[name=mac]:checked");
  }

  async function refresh() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(live.dataset.live, { headers: { Accept: "text/html" } });
      if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
      else if (answer.ok) exchange(await answer.text());
    } catch { /* The server is away; the stream comes back with it. */ }
    asking = false;
    if (again) { again = false; refresh(); }
  }

  function offerAll() {
    const all = live.querySelector("[data-tick-all]");
    if (!all) return;
    all.hidden = false;
    const boxes = [...live.querySelectorAll("input[name=mac]")];
    all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
    all.addEventListener("change", () => {
      for (const box of boxes) box.checked = all.checked;
      offerBulk();
    });
  }

  offerAll();
  offerBulk();
  live.addEventListener("change", offerBulk);
  // No stream while nobody looks: a browser has six connections to a server, and tabs share them.
  let stream = null;
  function watch() {
    if (document.hidden) { stream?.close(); stream = null; return; }
    if (stream) return;
    stream = new EventSource(live.dataset.stream ?? "/events");
    stream.addEventListener("changed", refresh);
    // The stream tells what happens from now on, and not what did since the page was made or the stream was lost.
    stream.addEventListener("open", refresh);
  }
  document.addEventListener("visibilitychange", watch);
  watch();
}

// Times in the reader's own zone.
function localise(part) {
  const styles = {
    date: { dateStyle: "medium", timeStyle: "medium" },
    time: { timeStyle: "medium", hourCycle: "h23" },
    minute: { timeStyle: "short", hourCycle: "h23" },
  };
  for (const time of part.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = new Intl.DateTimeFormat(undefined, styles[time.dataset.local]).format(at);
    time.title = time.dateTime;
  }
}
localise(document);

// From a mistake to its line, also in what comes later.
const text = document.getElementById("text");
// Marks the line, and brings it to where it is seen.
function select(number) {
  const lines = text.value.split("\n"), line = Math.min(number, lines.length);
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + lines[line - 1].length);
  text.scrollTop = (line - 4) * text.scrollHeight / lines.length;
}
if (text) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-line]");
    if (!link) return;
    event.preventDefault();
    select(Number(link.dataset.line));
  });
}

// What a change would come to, as it is typed.
const editor = document.querySelector("form[data-preview]");
if (editor) {
  const outlook = document.querySelector("[data-outlook]");
  // The numbers of the lines beside the text, with a mark where something is wrong.
  const gutter = document.createElement("pre"), frame = document.createElement("div");
  gutter.className = "gutter";
  gutter.setAttribute("aria-hidden", "true");
  frame.className = "editor";
  text.replaceWith(frame);
  frame.append(gutter, text);
  function number() {
    const marked = new Set([...outlook.querySelectorAll("a[data-line]")].map((link) => Number(link.dataset.line)));
    const lines = text.value.split("\n").map((_, at) => (marked.has(at + 1) ? "▶ " : "") + (at + 1));
    gutter.textContent = lines.join("\n");
    gutter.scrollTop = text.scrollTop;
  }
  number();
  text.addEventListener("input", number);
  text.addEventListener("scroll", () => { gutter.scrollTop = text.scrollTop; });
  if (editor.dataset.begin) select(Number(editor.dataset.begin));
  let timer = 0, asking = null;
  async function preview() {
    asking?.abort();
    asking = new AbortController();
    const fields = new URLSearchParams(new FormData(editor));
    fields.set("do", "preview");
    try {
      const answer = await fetch(editor.action, { method: "POST", body: fields, signal: asking.signal });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-outlook]");
      if (fresh) outlook.replaceChildren(...fresh.childNodes);
      number();
    } catch { /* Typed on meanwhile, or the server is away: the button is there. */ }
  }
  editor.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(preview, 600); });
}
