// A headless Chromium, found on this machine, that notes every request it makes.
import { chromium } from 'playwright-core';
import { existsSync } from 'node:fs';

const places = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
];
export const executablePath = places.find((path) => path && existsSync(path));

export async function startBrowser() {
  return chromium.launch({
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

export const desktop = { width: 1280, height: 800 };
export const phone = { width: 390, height: 844 };

// A page of its own profile. `seen` collects what went wrong or out.
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: desktop, acceptDownloads: true, ...options });
  const page = await context.newPage();
  const seen = { outside: [], errors: [] };
  page.on('request', (request) => {
    const at = request.url();
    if (!at.startsWith(url) && !/^(data|blob):/.test(at)) seen.outside.push(at);
  });
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/status of 4/.test(message.text())) seen.errors.push(message.text());
  });
  await page.goto(url);
  await page.getByLabel('Message', { exact: true }).waitFor();
  return { context, page, seen };
}

export async function send(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

// The latest answer, once it is complete.
export async function answer(page) {
  const last = page.locator('article.assistant[aria-busy="false"]').last();
  await page.getByRole('button', { name: 'Send', exact: true }).waitFor();
  await last.waitFor();
  return last;
}

// A small file as a drop, the way a hand does it.
export async function drop(page, name, type, base64) {
  await page.evaluate(({ name, type, base64 }) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type }));
    const target = document.querySelector('.chat');
    for (const kind of ['dragenter', 'dragover', 'drop']) target.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
  }, { name, type, base64 });
}
