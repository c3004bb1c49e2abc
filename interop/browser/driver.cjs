// A browser on a lead: takes a command as a line of JSON, answers with a line of JSON, until there are no more. What is to be
// seen on a page, and whether that is right, is decided by whoever holds the lead (`tests/page/browser.rs`).
"use strict";

const readline = require("node:readline");
const path = require("node:path");
const { createRequire } = require("node:module");

const folder = process.cwd();
const { chromium } = createRequire(path.join(folder, "package.json"))("playwright-core");

const POLL_MILLISECONDS = 25;
const CLOCK_STEP_MILLISECONDS = 100;

let context;
let page;
let faults = [];
let requestsUnderWay = 0;

const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const until = async (condition, seconds, what) => {
  const end = Date.now() + seconds * 1000;
  let last;
  while (Date.now() < end) {
    last = await condition();
    if (last) return last;
    await later(POLL_MILLISECONDS);
  }
  throw new Error(`not within ${seconds} seconds: ${what}`);
};

const watch = () => {
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error}`));
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", () => { requestsUnderWay += 1; });
  page.on("requestfinished", () => { requestsUnderWay -= 1; });
  page.on("requestfailed", (request) => { requestsUnderWay -= 1; faults.push(`failed: ${request.url()}`); });
  page.on("response", (answer) => {
    if (answer.status() >= 400) faults.push(`${answer.status()}: ${answer.url()}`);
  });
};

const commands = {
  // Only one page at a time is open.
  async open({ url, width, height, isPhone, isDark, hasScripts, hasClock, token }) {
    await context?.close();
    faults = [];
    requestsUnderWay = 0;
    context = await browser.newContext({
      viewport: { width, height },
      deviceScaleFactor: isPhone ? 2 : 1,
      isMobile: isPhone,
      hasTouch: isPhone,
      colorScheme: isDark ? "dark" : "light",
      javaScriptEnabled: hasScripts,
      reducedMotion: "reduce",
      extraHTTPHeaders: token ? { authorization: `Bearer ${token}` } : {},
    });
    page = await context.newPage();
    watch();
    if (hasClock) await page.clock.install();
    const answer = await page.goto(url);
    return { status: answer.status(), headers: answer.headers() };
  },
  evaluate: ({ expression }) => page.evaluate(expression),
  wait: ({ expression, seconds }) => until(() => page.evaluate(expression), seconds, expression),
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text }) => page.keyboard.type(text),
  shot: ({ file, isWhole }) => page.screenshot({ path: file, fullPage: isWhole }).then(() => null),
  // From now on the page's clock stands still.
  async stopClock() {
    const pause = async () => page.clock.pauseAt((await page.evaluate("Date.now()")) + 1);
    // The moment may be over before the clock hears of it; it stands still then, too, but not where it was told to.
    await pause().catch(pause);
  },
  // The page's clock goes on by so much, and what the page asks for meanwhile takes no time.
  async passTime({ milliseconds }) {
    for (let passed = 0; passed < milliseconds; passed += CLOCK_STEP_MILLISECONDS) {
      await page.clock.runFor(CLOCK_STEP_MILLISECONDS);
      await until(() => requestsUnderWay === 0, 30, "the page's requests are answered");
    }
  },
  faults: () => faults,
};

let browser;
(async () => {
  browser = await chromium.launch({
    executablePath: path.join(folder, "chromium"),
    // Which would need more than a test has; nothing but our own pages is opened.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { command, ...parameters } = JSON.parse(line);
    let answer;
    try {
      answer = { value: (await commands[command](parameters)) ?? null };
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
})();
