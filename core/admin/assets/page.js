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
  }
  document.addEventListener("visibilitychange", () => { watch(); if (!document.hidden) refresh(); });
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

// From a mistake to its line.
const text = document.getElementById("text");
function select(number) {
  const lines = text.value.split("\n"), line = Math.min(number, lines.length);
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + lines[line - 1].length);
  text.scrollTop = (line - 4) * text.scrollHeight / lines.length;
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-line]");
  if (!link || !text) return;
  event.preventDefault();
  select(Number(link.dataset.line));
});

// A file is tried while it is typed: what is wrong with it stands at its line and below, and what it would come to.
const editor = document.querySelector("form[data-editor]");
if (editor) {
  const findings = editor.querySelector("[data-findings]"), gutter = document.createElement("pre");
  gutter.className = "gutter";
  gutter.setAttribute("aria-hidden", "true");
  text.before(gutter);
  let marked = new Set([...findings.querySelectorAll("a[data-line]")].map((link) => Number(link.dataset.line)));
  let tried = text.value, timer = 0, trying = false;

  function number() {
    const count = text.value.split("\n").length;
    gutter.textContent = Array.from({ length: count }, (_, at) => (marked.has(at + 1) ? "▶ " : "") + (at + 1)).join("\n");
    gutter.scrollTop = text.scrollTop;
  }

  function make(name, words, kind = "") {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    made.append(...[words].flat());
    return made;
  }

  function linked(words, address, kind = "") {
    const link = make("a", words, kind);
    link.href = address;
    return link;
  }

  function tellWrong(problem) {
    const errors = (problem.errors ?? []).map((wrong) => {
      const [, file, line] = /^(.*):(\d+):\d+$/.exec(wrong.at) ?? [];
      if (file !== editor.dataset.place || line === "0") return make("li", [make("code", wrong.at), ": " + wrong.message]);
      marked.add(Number(line));
      const link = linked("Line " + line, "#text");
      link.dataset.line = line;
      return make("li", [link, ": " + wrong.message]);
    });
    return make("div", [make("p", problem.detail ?? "The server gave no reason."), make("ul", errors, "errors")], "note bad");
  }

  function tellOutlook(outlook) {
    const phones = outlook.phones === 1 ? "1 phone" : outlook.phones + " phones";
    let words = "No phone would get another file.";
    if (outlook.phones) {
      words = `${phones} would get other files. ${outlook.restarts} would restart for it`;
      words += outlook.perhaps ? `, ${outlook.perhaps} perhaps.` : ".";
    }
    if (outlook.looked_at < outlook.of) words += ` Looked at ${outlook.looked_at} of ${outlook.of} phones.`;
    const told = make("div", [make("p", words)], "note good");
    if (outlook.items.length) {
      const items = outlook.items.slice(0, 50).map((one) =>
        make("li", [linked(one.mac, "/devices/" + one.mac, "mac"), one.label ? " " + one.label : ""]));
      told.append(make("details", [make("summary", "Which"), make("ul", items)]));
    }
    return told;
  }

  // One at a time: for many phones it takes the server seconds.
  async function attempt() {
    if (trying || text.value === tried) return;
    trying = true;
    tried = text.value;
    const edits = [{ file: editor.dataset.file, content: tried }];
    try {
      const answer = await fetch("/api/v1/changes", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": editor.elements.csrf.value },
        body: JSON.stringify({ edits }),
      });
      const said = await answer.json();
      marked = new Set();
      findings.replaceChildren(answer.ok ? tellOutlook(said) : tellWrong(said));
      number();
    } catch { /* The server is away; saving will say so. */ }
    trying = false;
    if (text.value !== tried) later();
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(attempt, 400);
  }

  text.addEventListener("input", () => { number(); later(); });
  text.addEventListener("scroll", () => { gutter.scrollTop = text.scrollTop; });
  number();
  if (editor.dataset.begin > 1) select(Number(editor.dataset.begin));
}
