// Makes the pictures of the documentation from two report pages:
//
//     node pictures.mjs CHROMIUM DEMO.html SAMPLE.html DIRECTORY
//
// DEMO.html is the page of the demo. SAMPLE.html has copies of old ciphertexts, which the demo does
// not have.
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import puppeteer from 'puppeteer-core';

const [executablePath, demo, sample, directory] = process.argv.slice(2);
const width = 1000; // px

const browser = await puppeteer.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
try {
  const page = await browser.newPage();
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }]);
  const open = (path) => page.goto(pathToFileURL(resolve(path)).href, { waitUntil: 'load' });
  const figure = async (section, name) => {
    const element = await page.$(`#${section} figure`);
    await element.screenshot({ path: join(directory, name) });
  };

  await open(demo);
  const end = await page.$eval('nav.toc', (e) => e.getBoundingClientRect().top + scrollY);
  await page.screenshot({
    path: join(directory, 'report.png'),
    clip: { x: 0, y: 0, width, height: Math.ceil(end) },
    captureBeyondViewport: true,
  });
  await figure('inventory', 'report-inventory.png');
  await figure('passes', 'report-passes.png');
  await open(sample);
  await figure('copies', 'report-copies.png');
} finally {
  await browser.close();
}
