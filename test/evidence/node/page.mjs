// Looks at a report page in Chromium, and prints what it found as JSON:
//
//     node page.mjs CHROMIUM REPORT.html DIRECTORY
//
// DIRECTORY gets light.png, dark.png, narrow.png (390 px) and report.pdf (A4).
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import puppeteer from 'puppeteer-core';

const [executablePath, report, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const address = pathToFileURL(report).href;
const narrow = 390; // px

const found = { messages: [], requests: [], violations: [], passes: 0, widths: {} };

async function open(browser, scheme, width) {
  const page = await browser.newPage();
  page.on('console', (m) => found.messages.push(`${scheme} ${width}: ${m.text()}`));
  page.on('pageerror', (e) => found.messages.push(`${scheme} ${width}: ${e.message}`));
  page.on('request', (r) => r.url() !== address && found.requests.push(r.url()));
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(address, { waitUntil: 'load' });
  found.widths[`${scheme} ${width}`] = await page.evaluate(
    () => document.documentElement.scrollWidth);
  return page;
}

async function check(page, scheme) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => axe.run());
  found.passes += result.passes.length;
  for (const { id, help, nodes } of result.violations) {
    found.violations.push(`${scheme}: ${id}: ${help}: ${nodes[0].html.slice(0, 200)}`);
  }
}

const browser = await puppeteer.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
try {
  for (const scheme of ['light', 'dark']) {
    const page = await open(browser, scheme, 1280);
    await page.screenshot({ path: join(directory, `${scheme}.png`), fullPage: true });
    await check(page, scheme);
  }
  const small = await open(browser, 'light', narrow);
  await small.screenshot({ path: join(directory, 'narrow.png'), fullPage: true });
  await check(small, 'narrow');
  const paper = await open(browser, 'dark', 1280);
  await paper.pdf({ path: join(directory, 'report.pdf'), format: 'A4', printBackground: true });
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
