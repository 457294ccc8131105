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

// A busy machine may take many times longer than a quiet one.
export const patience = 120_000;

// Waits until something is so: for what shows in no element.
export async function until(holds) {
  for (const end = Date.now() + patience; !(await holds()); await new Promise((soon) => setTimeout(soon, 50)))
    if (Date.now() > end) throw new Error(`never so: ${holds}`);
}

export const desktop = { width: 1280, height: 800 };
export const phone = { width: 390, height: 844 };

// A page of its own profile. `seen` collects what went wrong or out.
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: desktop, acceptDownloads: true, ...options });
  context.setDefaultTimeout(patience);
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

// Comes back when the message is shown and its answer runs: the page draws with the next frame.
export async function send(page, text) {
  const messages = page.locator('article.user');
  const before = await messages.count();
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
  await messages.nth(before).waitFor();
}

// Waits until this browser has kept a conversation in which all of these are said.
export const kept = (page, ...texts) =>
  until(async () => {
    const all = await page.evaluate(() => new Promise((resolve, reject) => {
      const opening = indexedDB.open('mlxlm', 1);
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const reading = opening.result.transaction('conversations').objectStore('conversations').getAll();
        reading.onerror = () => reject(reading.error);
        reading.onsuccess = () => {
          opening.result.close();
          resolve(reading.result.map((one) => JSON.stringify(one)));
        };
      };
    }));
    return all.some((one) => texts.every((text) => one.includes(text)));
  });

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
