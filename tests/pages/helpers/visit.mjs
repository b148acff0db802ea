// Visits of the pages: each is a browser of its own, and is watched for all that the pages never do.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, test } from "node:test";
import { chromium } from "playwright-core";
import { API_URL, NEW_PASSWORD, PASSWORD } from "./service.mjs";
import { WORDS } from "./words.mjs";

/** The folder of the screenshots. */
export const PICTURES = new URL("../../../target/ci/pages/", import.meta.url).pathname;
mkdirSync(PICTURES, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // Chromium's own sandbox refuses to run as root, which CI does.
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});
after(() => browser.close());

const PHONE = { width: 320, height: 640 };
const DESKTOP = { width: 1280, height: 800 };

/** A person's browser. */
export class Visit {
  /** All requests, in order. */
  requests = [];
  /** The tokens that the service has issued to this browser. */
  #tokens = [];
  #staysSignedIn = false;
  #faults = [];
  #expected = null;

  static async begin(options = {}) {
    const { language = "en", origins = [API_URL], phone = false, ...rest } = options;
    const visit = new Visit();
    visit.language = language;
    visit.words = WORDS[language];
    visit.context = await browser.newContext({
      baseURL: origins[0],
      locale: language,
      reducedMotion: "reduce",
      viewport: phone ? PHONE : DESKTOP,
      ...rest,
    });
    visit.context.setDefaultTimeout(15_000);
    visit.#watch(origins);
    visit.page = await visit.newTab();
    return visit;
  }

  newTab() {
    return this.context.newPage();
  }

  #watch(origins) {
    this.context.on("request", (request) => {
      this.requests.push(request);
      const { origin } = new URL(request.url());
      if (!origins.includes(origin)) this.#faults.push(`a request to ${origin}`);
    });
    this.context.on("response", async (response) => {
      if (!response.url().includes("/api/")) return;
      // The page may be gone already.
      const { token, session_token } = await response.json().catch(() => ({}));
      this.#tokens.push(...[token, session_token].filter(Boolean));
      this.#staysSignedIn ||= Boolean(session_token);
    });
    this.context.on("weberror", (error) => this.#faults.push(`an exception: ${error.error().stack}`));
    this.context.on("console", (message) => {
      // Chromium reports each response with an error's status.
      if (message.text().startsWith("Failed to load resource")) return;
      if (["error", "warning"].includes(message.type()) && !this.#expected?.test(message.text())) {
        this.#faults.push(message.text());
      }
    });
  }

  /** Lets the console show what the pattern matches. */
  expects(pattern) {
    this.#expected = pattern;
  }

  /** The requests to a route of the API. */
  requestsTo(route) {
    return this.requests.filter((request) => new URL(request.url()).pathname === `/api/${route}`);
  }

  /** Fails if a request, the console or the browser's storage shows what it must not. */
  async verify() {
    assert.deepEqual(this.#faults, []);
    assert.deepEqual(await this.context.cookies(), [], "no cookies");
    const addresses = [...this.requests, ...this.context.pages()].map((shown) => shown.url());
    const secrets = [...this.#tokens, PASSWORD, NEW_PASSWORD, encodeURIComponent(PASSWORD)];
    for (const secret of secrets) {
      assert(!addresses.some((address) => address.includes(secret)), "no secret in an address");
    }
    for (const page of this.context.pages()) {
      const tab = await page.evaluate(() => JSON.stringify(sessionStorage));
      const all = await page.evaluate(() => JSON.stringify(localStorage));
      for (const password of [PASSWORD, NEW_PASSWORD]) assert(!(tab + all).includes(password), "no password is stored");
      const tokens = this.#staysSignedIn ? [] : this.#tokens;
      assert(!tokens.some((token) => all.includes(token)), "no token outlives the tab");
    }
  }
}

/** Defines a test with one visit, or one for each language: `visits(name, [options,] async (visit) => …)`. */
export function visits(name, ...rest) {
  const steps = rest.pop();
  const { languages = ["en"], ...options } = rest.pop() ?? {};
  for (const language of languages) {
    const title = languages.length > 1 ? `${name} (${language})` : name;
    test(title, { timeout: 60_000 }, async () => {
      const visit = await Visit.begin({ language, ...options });
      try {
        await steps(visit);
        await visit.verify();
      } catch (error) {
        const path = `${PICTURES}failed: ${title}.png`;
        // The fault may be that there is no page any more.
        await visit.page.screenshot({ path }).catch(() => {});
        throw error;
      } finally {
        await visit.context.close();
      }
    });
  }
}

export const BOTH = { languages: ["en", "de"] };
