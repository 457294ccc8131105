// The page as the program serves it, with a small model. MLXLM names the program.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { answer, executablePath, openPage, send, startBrowser, until } from './browser.mjs';
import { hostile } from './mock.mjs';

const program = process.env.MLXLM;
const skip = executablePath === undefined || program === undefined;
const shots = process.env.SHOTS;

let server, url, folder, browser;

async function start() {
  const child = spawn(program, ['serve', '--port', '0', '--no-access-log', '--max-tokens', '4000', '--conversations', join(folder, 'kept.db')], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  const at = await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      said += data;
      const found = /serving .* at (http:\S+)/.exec(said);
      if (found) resolve(found[1].replace(/\/?$/, '/'));
    });
    child.on('exit', (code) => reject(new Error(`ended with ${code}: ${said}`)));
  });
  return { child, at };
}

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'mlxlm-page-'));
  ({ child: server, at: url } = await start());
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  if (server) {
    server.kill('SIGTERM');
    await new Promise((ended) => server.once('exit', ended));
  }
  if (folder) await rm(folder, { recursive: true });
});

test('real: headers, and files that are not sent twice', { skip }, async () => {
  const page = await fetch(url, { headers: { accept: 'text/html' } });
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type'), /^text\/html/);
  const policy = page.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'.*frame-ancestors 'none'/);
  assert.ok((await page.text()).includes(policy.replace("; frame-ancestors 'none'", '')));
  const again = await fetch(`${url}page/app.js`, { headers: { 'if-none-match': (await fetch(`${url}page/app.js`)).headers.get('etag') } });
  assert.equal(again.status, 304);
  assert.equal((await fetch(`${url}page/none.js`)).status, 404);
});

test('real: send, stream, stop, edit, reload', { skip }, async () => {
  const { page, context, seen } = await openPage(browser, url);
  await page.getByText('Kept on this server.').waitFor();
  await send(page, 'What is the capital of France?');
  const first = await answer(page);
  assert.match(await first.innerText(), /Paris/);
  assert.match(await first.locator('.stats').innerText(), /tokens.*tok\/s.*prompt \d+/s);
  await send(page, 'Write a very long story of at least 2000 words.');
  await page.locator('article').nth(3).locator('.markdown p').first().waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  const stopped = await answer(page);
  assert.match(await stopped.innerText(), /Stopped/);
  await page.locator('article.user').first().hover();
  await page.getByRole('button', { name: 'Edit and send again' }).first().click();
  await page.getByLabel('Edit the message').fill('What is the capital of Germany?');
  await page.keyboard.press('Control+Enter');
  await page.locator('article.assistant').first().getByText(/Berlin/).waitFor();
  await answer(page);
  if (shots) await page.screenshot({ path: `${shots}/real-desktop.png` });
  await until(async () => {
    const { data } = await (await fetch(`${url}conversations`)).json();
    const all = await Promise.all(data.map(async ({ id }) => (await fetch(`${url}conversations/${id}`)).text()));
    return all.some((one) => one.includes('Berlin'));
  });
  await page.reload();
  await page.locator('article.assistant').first().getByText(/Berlin/).waitFor();
  await page.getByRole('link', { name: 'Live view' }).click();
  const shows = (name, pattern) => until(async () => pattern.test(await page.getByRole('region', { name }).innerText()));
  await shows('Memory', /process\s+[\d.]+ [MG]iB/);
  await shows('KV pages', /\d/);
  if (shots) await page.screenshot({ path: `${shots}/real-live-desktop.png` });
  assert.deepEqual(seen, { outside: [], errors: [] });
  await context.close();
});

// What a model may have said, as the server keeps it: text, thought, call and error.
test('real: a hostile conversation stays text', { skip }, async () => {
  const message = (id, parent, more) => ({ id, parent, time: 1, ...more });
  const calls = [{ id: 'c', name: '<img src=x onerror="window.hacked=20">', arguments: '{"a":"<script>window.hacked=21</script>"}' }];
  const conversation = {
    id: 'hostile',
    title: '<img src=x onerror="window.hacked=22">',
    created: 1,
    updated: 1,
    settings: {},
    messages: {
      a: message('a', null, { role: 'user', text: hostile }),
      b: message('b', 'a', { role: 'assistant', text: hostile, reasoning: hostile, calls, finish: 'error', error: '<b onmouseover="window.hacked=23">x</b>', model: '<i>m</i>' }),
    },
    picks: { '': 'a', a: 'b' },
  };
  const kept = await fetch(`${url}conversations/hostile`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(conversation) });
  assert.equal(kept.status, 200);
  const { page, context, seen } = await openPage(browser, `${url}#/c/hostile`);
  seen.outside = seen.outside.filter((at) => !at.startsWith(url)); // the fragment is no part of requests
  const last = page.locator('article.assistant').last();
  await last.getByText('fine').first().waitFor();
  for (const fold of await last.locator('details summary').all()) await fold.click();
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator('main :is(script, iframe, object, embed, form form, style, svg:not(.icon)), main img').count(), 0);
  const hrefs = await last.locator('[href]').evaluateAll((links) => links.map((link) => link.getAttribute('href')));
  assert.ok(hrefs.includes('https://example.org/ok'));
  for (const href of hrefs) assert.match(href, /^(https?|mailto):/);
  const handlers = await page.locator('main *, nav *').evaluateAll((all) => all.flatMap((one) => one.getAttributeNames()).filter((name) => /^on/.test(name)));
  assert.deepEqual(handlers, []);
  if (shots) await page.screenshot({ path: `${shots}/real-hostile.png` });
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.outside.filter((at) => !at.startsWith(url)), []);
  await context.close();
});
