// A browser that does what it is told: a command a line in, JSON; an answer a line out. What is to be done and seen is said in Rust
// (main.rs and its modules); here is only how Chromium does it.
//
// Each answer carries what the page did wrong meanwhile: errors in its console, violations of its Content-Security-Policy, requests to
// anybody but the server.
import { createInterface } from "node:readline";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [chromiumPath, origin, shots] = process.argv.slice(2);
const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 844 };

mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({
  executablePath: chromiumPath,
  args: [
    // The tests run as root, in which Chromium has no sandbox; the pages are our own.
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
  ],
});
let faults = [];
let context = null;
let page = null;
let shot = 0;

/** A fresh visitor, who knows nobody's cookies, at the first tab. */
async function open({ script }) {
  await context?.close();
  const options = { baseURL: origin, viewport: WIDE, locale: "en-GB", timezoneId: "Europe/Berlin", javaScriptEnabled: script };
  context = await browser.newContext(options);
  // A busy machine is slow; nothing here waits so long when all is well.
  context.setDefaultTimeout(45_000);
  if (script) {
    await context.exposeBinding("provostViolation", (_, text) => faults.push(text));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) => {
        globalThis.provostViolation(`Content-Security-Policy: ${violatedDirective} forbids ${blockedURI} at ${sourceFile}:${lineNumber}`);
      });
    });
  }
  await tab();
}

async function tab() {
  page = await context.newPage();
  page.on("console", (said) => {
    // A refusal is an answer too, and the browser notes the status of each.
    const isStatus = said.text().startsWith("Failed to load resource: the server responded with a status of 4");
    const isPage = new URL(said.location().url || origin).pathname === new URL(page.url()).pathname;
    if (said.type() === "error" && !(isStatus && isPage)) faults.push(`console: ${said.text()} (${said.location().url})`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error.stack ?? error}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith("data:")) faults.push(`another origin was asked: ${url}`);
  });
  page.on("requestfailed", (request) => {
    // Streams and what a navigation cuts short end like this.
    if (request.failure()?.errorText !== "net::ERR_ABORTED") faults.push(`${request.url()}: ${request.failure()?.errorText}`);
  });
}

/** What is meant, of what is to be seen: by its role and name, as a person finds it, by its label, or by its words. */
function target({ role, name, label, exact, css, text }) {
  const found = role ? page.getByRole(role, { name, exact }) : label ? page.getByLabel(label, { exact: true }) : css ? page.locator(css) : page.getByText(text);
  return found.filter({ visible: true }).first();
}

async function picture(name) {
  const path = `${shots}/${String(++shot).padStart(2, "0")}-${name}.png`;
  await page.screenshot({ path, fullPage: true, animations: "disabled" });
  return path;
}

/** The page as axe judges it, light and dark, wide and narrow. */
async function judge() {
  const found = [];
  const cdp = await page.context().newCDPSession(page);
  // The debugger's door: the page's own policy lets no script of ours in, which is as it should be.
  const evaluate = async (expression) => {
    const answer = await cdp.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? answer.exceptionDetails.text);
    return answer.result.value;
  };
  await evaluate(AXE);
  for (const [width, viewport] of [["wide", WIDE], ["narrow", NARROW]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      const results = await evaluate(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
        violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.slice(0, 5).map(({ target, failureSummary }) => ({ target: target.join(" "), failureSummary })) })))`);
      found.push(...results.map((one) => ({ width, colorScheme, ...one })));
    }
    const overflow = await evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    if (overflow > 0) found.push({ width, colorScheme: "any", id: "overflow", impact: "serious", help: `the page is ${overflow} px wider than the window`, nodes: [] });
  }
  await cdp.detach();
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  return found;
}

const commands = {
  open,
  /** Another tab of the same visitor, or back to one: the first is 0. */
  async tab({ number }) {
    if (number < context.pages().length) page = context.pages()[number];
    else await tab();
    await page.bringToFront();
  },
  async go({ path }) {
    const response = await page.goto(path);
    return response.status();
  },
  click: (what) => target(what).click(),
  fill: ({ value, ...what }) => target(what).fill(value),
  check: (what) => target(what).check(),
  checked: (what) => target(what).isChecked(),
  press: ({ key }) => page.keyboard.press(key),
  type: ({ value }) => page.keyboard.type(value),
  /** Goes on from one thing to the next, as who has no mouse does; the number of steps. */
  async reach(what) {
    for (let steps = 0; steps < 100; steps++) {
      if (await target(what).evaluate((element) => element === document.activeElement && element.matches(":focus-visible"))) return steps;
      await page.keyboard.press("Tab");
    }
    throw new Error("the tab key does not lead there");
  },
  see: (what) => target(what).waitFor({ state: "visible" }),
  gone: (what) => target(what).waitFor({ state: "hidden" }),
  value: (what) => target(what).inputValue(),
  url: () => page.url().slice(origin.length),
  picture: ({ name }) => picture(name),
  judge,
  /** Leaves a mark that only a reload takes away. */
  mark: () => page.evaluate(() => { globalThis.provostMark = true; }),
  marked: () => page.evaluate(() => globalThis.provostMark === true),
  /** Does to the page what must be found in none, so that it is known to be found. */
  async spoil() {
    await page.evaluate(() => {
      const main = document.querySelector("main");
      const text = Object.assign(document.createElement("p"), { textContent: "hardly to be read" });
      text.style.cssText = "color: #ccc; background: #ddd";
      const wide = Object.assign(document.createElement("p"), { textContent: "wide" });
      wide.style.width = "2000px";
      // Without a word for those who cannot see it; and the policy lets no other host in.
      const image = Object.assign(document.createElement("img"), { src: "http://192.0.2.1/x.png" });
      const script = Object.assign(document.createElement("script"), { textContent: "void 0" });
      main.append(text, wide, image, script);
      setTimeout(() => { throw new Error("spoiled"); });
    });
    await page.waitForTimeout(500);
  },
  count: ({ css }) => page.locator(css).count(),
  links: () => page.evaluate(() => [...document.querySelectorAll("a[href]")].map((link) => link.href)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...words } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](words)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error), shot: await picture(`failed-${command}`).catch(() => null), page: page?.url() };
  }
  // The binding of violations and the console come by other ways than the command's answer.
  process.stdout.write(`${JSON.stringify({ ...answer, faults })}\n`);
  faults = [];
}
await browser.close();
