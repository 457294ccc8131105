// The built page in a real browser, against a server with known answers.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { deflateSync } from 'node:zlib';
import { answer, desktop, drop, executablePath, kept, openPage, patience, phone, send, startBrowser, until } from './browser.mjs';
import { sleep, startMock } from './mock.mjs';

const shots = process.env.SHOTS; // a folder for pictures, to be looked at

// A red square as PNG.
function redSquare(side) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(8);
    out.writeUInt32BE(data.length);
    out.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([out.subarray(0, 4), body, out.subarray(4)]);
  };
  const head = Buffer.from([0, 0, 0, side, 0, 0, 0, side, 8, 2, 0, 0, 0]);
  const row = Buffer.concat([Buffer.from([0]), Buffer.alloc(3 * side, Buffer.from([200, 40, 40]))]);
  const pixels = deflateSync(Buffer.concat(Array(side).fill(row)));
  return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk('IHDR', head), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]).toString('base64');
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

let browser, mock;
before(async () => {
  browser = await startBrowser();
  mock = await startMock();
});
after(async () => {
  await browser?.close();
  mock?.stop();
});

const shoot = async (page, name) => shots && page.screenshot({ path: `${shots}/${name}.png` });

// Each test has a profile of its own, and leaves no request to the outside behind.
const on = (name, run, options = {}) =>
  test(name, { skip: executablePath === undefined }, async () => {
    const server = options.server ?? mock;
    const opened = await openPage(browser, server.url, options.context);
    try {
      await run(opened.page, opened);
      if (!options.provokes) assert.deepEqual(opened.seen, { outside: [], errors: [] });
    } catch (error) {
      await shoot(opened.page, `failed-${name.replace(/\W+/g, '-')}`);
      throw error;
    } finally {
      await opened.context.close();
    }
  });

on('sends, streams, shows statistics', async (page) => {
  await shoot(page, 'empty-desktop');
  await send(page, 'Hello there');
  const last = await answer(page);
  assert.equal(await last.locator('.markdown').innerText(), 'You said: Hello there');
  assert.match(await last.locator('.stats').innerText(), /41\.7 tok\/s.*first after .*prompt 64, 48 from cache/s);
  assert.match(page.url(), /#\/c\/\w+$/);
  assert.match(await page.title(), /Hello there/);
  const body = mock.requests.at(-1);
  assert.equal(body.model, 'mock/Small-1B-Instruct');
  assert.deepEqual(body.messages, [{ role: 'user', content: 'Hello there' }]);
  assert.equal(body.stream, true);
  // Screen readers are told the answer, and once.
  const told = page.locator('#announcements');
  await told.getByText('You said').waitFor();
  assert.equal((await told.innerText()).split('You said').length - 1, 1);
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('aria-label')), 'Message');
});

on('Markdown: code, tables, math, tasks', async (page) => {
  await send(page, 'markdown please');
  const last = await answer(page);
  await last.locator('math').nth(1).waitFor();
  assert.equal(await last.locator('math').count(), 2);
  assert.equal(await last.locator('table tbody tr').count(), 2);
  assert.equal(await last.locator('li.task input').count(), 2);
  assert.match(await last.innerText(), /a price of \$5 and \$6/);
  assert.match(await last.innerText(), /wobbles & falls/);
  assert.ok((await last.locator('.code-word').count()) >= 2);
  const link = last.getByRole('link', { name: 'the paper' });
  assert.equal(await link.getAttribute('href'), 'https://example.org/paper');
  assert.match(await link.getAttribute('rel'), /noopener/);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await last.getByRole('button', { name: 'Copy code' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def lean\(angle/);
  await shoot(page, 'markdown-desktop');
});

on('hostile Markdown stays text', async (page) => {
  await send(page, 'hostile');
  const last = await answer(page);
  await last.getByText('fine').waitFor();
  await sleep(300);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await last.locator('.markdown :is(script, img, iframe, svg:not(.icon), object, embed, form, style)').count(), 0);
  const hrefs = await last.locator('[href]').evaluateAll((links) => links.map((link) => link.getAttribute('href')));
  assert.ok(hrefs.includes('https://example.org/ok'));
  for (const href of hrefs) assert.match(href, /^(https?|mailto):/);
  const handlers = await last.locator('*').evaluateAll((all) => all.flatMap((one) => one.getAttributeNames()).filter((name) => /^(on|style|src)/.test(name)));
  assert.deepEqual(handlers.filter((name) => name !== 'style'), []);
});

on('the policy stops what would get through', async (page) => {
  const blocked = await page.evaluate(async (patience) => {
    const found = [];
    document.addEventListener('securitypolicyviolation', (event) => found.push(event.effectiveDirective));
    const script = document.createElement('script');
    try {
      script.textContent = 'window.hacked = 1';
      document.body.append(script);
    } catch {
      found.push('trusted-types');
    }
    const image = document.createElement('img');
    image.src = 'http://203.0.113.9/pixel.png';
    document.body.append(image);
    await fetch('http://203.0.113.9/').catch(() => undefined);
    try {
      document.body.insertAdjacentHTML('beforeend', '<b>x</b>');
    } catch {
      found.push('html');
    }
    const missing = () => ['img-src', 'connect-src', 'html'].filter((one) => !found.includes(one));
    for (const end = Date.now() + patience; missing().length > 0 && Date.now() < end;) await new Promise((resolve) => setTimeout(resolve, 50));
    return { missing: missing(), hacked: window.hacked };
  }, patience);
  assert.deepEqual(blocked, { missing: [], hacked: undefined });
}, { provokes: true });

on('stops', async (page) => {
  const before = mock.state.aborted;
  await send(page, 'a long one');
  await page.getByText('word word').first().waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  const last = await answer(page);
  assert.match(await last.innerText(), /Stopped/);
  await until(() => mock.state.aborted === before + 1);
  // Escape does the same.
  await send(page, 'another long one');
  await page.locator('article').nth(3).getByText('word word').waitFor();
  await page.keyboard.press('Escape');
  await answer(page);
  await until(() => mock.state.aborted === before + 2);
});

on('edits, retries, and keeps the branches', async (page) => {
  await send(page, 'first');
  await answer(page);
  await page.locator('article.user').hover();
  await page.getByRole('button', { name: 'Edit and send again' }).click();
  await page.getByLabel('Edit the message').fill('second');
  await page.keyboard.press('Control+Enter');
  await page.locator('.messages').getByText('You said: second').waitFor();
  const last = await answer(page);
  assert.deepEqual(mock.requests.at(-1).messages, [{ role: 'user', content: 'second' }]);
  await last.hover();
  await last.getByRole('button', { name: 'Another answer' }).click();
  await page.locator('article.assistant .branches').waitFor();
  await answer(page);
  assert.equal(await page.locator('article.assistant .branches').innerText(), '2/2');
  await page.locator('article.user').getByRole('button', { name: 'Version before' }).click();
  await page.locator('.messages').getByText('You said: first').waitFor();
  assert.equal(await page.locator('article').count(), 2);
  await send(page, 'and on');
  await answer(page);
  assert.deepEqual(mock.requests.at(-1).messages.map((message) => message.content), ['first', 'You said: first', 'and on']);
  await shoot(page, 'branches-desktop');
});

on('edits while an answer runs', async (page) => {
  await send(page, 'a long one');
  await page.getByText('word word').first().waitFor();
  await page.locator('article.user').hover();
  await page.getByRole('button', { name: 'Edit and send again' }).click();
  await page.getByLabel('Edit the message').fill('short');
  await page.getByRole('button', { name: 'Send', exact: true }).first().click();
  await page.locator('.messages').getByText('You said: short').waitFor();
  await answer(page);
  await page.locator('article.user').getByRole('button', { name: 'Version before' }).click();
  await page.locator('.messages').getByText('Stopped').waitFor();
});

on('is the same after a reload', async (page) => {
  await send(page, 'remember me');
  await answer(page);
  await kept(page, 'You said: remember me', '"finish":"stop"');
  await page.reload();
  await page.locator('.messages').getByText('You said: remember me').waitFor();
  assert.equal(await page.locator('nav a[aria-current]').innerText(), 'remember me');
  await send(page, 'a long one');
  await kept(page, 'word word word');
  await page.reload();
  await page.locator('.messages').getByText('Interrupted').waitFor();
  assert.match(await page.locator('article.assistant').last().innerText(), /word word/);
});

on('goes on while another conversation is looked at', async (page) => {
  await send(page, 'a long one');
  await page.getByText('word word').first().waitFor();
  await page.getByRole('button', { name: 'New conversation' }).first().click();
  await page.getByText('What would you like to know?').waitFor();
  await send(page, 'short');
  await answer(page);
  await page.getByRole('link', { name: 'a long one' }).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  assert.match(await (await answer(page)).innerText(), /Stopped/);
});

on('folds reasoning', async (page) => {
  await send(page, 'think hard');
  const last = await answer(page);
  const fold = last.locator('details.reasoning');
  assert.match(await fold.locator('summary').innerText(), /Thought for/);
  assert.equal(await fold.getAttribute('open'), null);
  await fold.locator('summary').click();
  await fold.getByText('Then at the whole.').waitFor();
  assert.equal(await last.locator('strong').innerText(), '42');
  await send(page, 'next');
  await answer(page);
  assert.match(mock.requests.at(-1).messages[1].reasoning_content, /First I look/);
});

on('shows tool calls and takes their results', async (page) => {
  await send(page, 'weather?');
  const last = await answer(page);
  const fold = last.locator('details');
  assert.match(await fold.innerText(), /Calls get_weather/);
  await fold.locator('summary').click();
  assert.match(await fold.innerText(), /"city": "Oslo"/);
  await shoot(page, 'tools-desktop');
  await page.getByLabel('Result of get_weather').fill('5 degrees');
  await page.getByRole('button', { name: 'Send results' }).click();
  await page.locator('.messages').getByText('It is 5 degrees.').waitFor();
  const { messages } = mock.requests.at(-1);
  assert.equal(messages[1].tool_calls[0].function.arguments, '{"city":"Oslo","days":2}');
  assert.deepEqual(messages[2], { role: 'tool', tool_call_id: 'call_1', content: '5 degrees' });
});

on('sends dropped pictures and text, refuses what the model cannot take', async (page) => {
  await drop(page, 'red.png', 'image/png', redSquare(64));
  await page.getByRole('img', { name: 'red.png' }).waitFor();
  await drop(page, 'notes.txt', 'text/plain', Buffer.from('one\ntwo').toString('base64'));
  await page.locator('.composer').getByText('notes.txt').waitFor();
  await drop(page, 'voice.wav', 'audio/wav', 'UklGRg==');
  await page.locator('.composer').getByText('voice.wav: this model takes no sound').waitFor();
  await drop(page, 'broken.png', 'image/png', 'iVBORw0KGgo=');
  await page.locator('.composer').getByText('broken.png: this is not a picture').waitFor();
  await shoot(page, 'attachments-desktop');
  await send(page, 'what is this?');
  await answer(page);
  const { content } = mock.requests.at(-1).messages[0];
  assert.deepEqual(content.map((part) => part.type), ['image_url', 'text', 'text']);
  assert.ok(content[0].image_url.url.startsWith('data:image/png;base64,iVBOR'));
  assert.match(content[1].text, /^File notes\.txt:\n```\none\ntwo\n```$/);
  assert.equal(await page.locator('article.user img').count(), 1);
});

on('says what went wrong', async (page) => {
  await send(page, 'refuse this');
  await page.getByRole('alert').getByText('this model takes text').waitFor();
  await send(page, 'broken');
  await page.getByRole('alert').getByText('the step failed').waitFor();
});

on('settings go into the request', async (page) => {
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByLabel('System prompt').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.2');
  await page.getByLabel('Stop texts').fill('END\nSTOP');
  await page.getByLabel('Thinking').selectOption('off');
  await page.getByLabel('Tools', { exact: true }).fill('{"no": "list"}');
  await page.getByText('expected a JSON list').waitFor();
  await page.getByLabel('Tools', { exact: true }).fill('[{"type":"function","function":{"name":"f"}}]');
  await shoot(page, 'settings-desktop');
  await page.getByRole('button', { name: 'Use for new ones too' }).click();
  await page.getByRole('button', { name: 'Close settings' }).click();
  await send(page, 'hi');
  await answer(page);
  const body = mock.requests.at(-1);
  assert.deepEqual(body.messages[0], { role: 'system', content: 'Be brief.' });
  assert.equal(body.temperature, 0.2);
  assert.deepEqual(body.stop, ['END', 'STOP']);
  assert.deepEqual(body.chat_template_kwargs, { enable_thinking: false });
  assert.equal(body.tools[0].function.name, 'f');
  assert.equal('top_p' in body, false);
  await page.keyboard.press('Control+Shift+O');
  await page.getByText('What would you like to know?').waitFor();
  await send(page, 'anew');
  await answer(page);
  assert.equal(mock.requests.at(-1).temperature, 0.2);
});

on('dark and light, kept', async (page) => {
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole('button', { name: 'Dark theme' }).click();
  const dark = await background();
  assert.notEqual(light, dark);
  await page.reload();
  await page.getByLabel('Message', { exact: true }).waitFor();
  assert.equal(await background(), dark);
  await send(page, 'markdown please');
  await (await answer(page)).locator('math').nth(1).waitFor();
  await shoot(page, 'markdown-dark-desktop');
});

on('renames, exports, imports, deletes', async (page) => {
  await send(page, 'keep this');
  await answer(page);
  const more = () => page.getByRole('button', { name: /^More about/ }).first();
  await page.locator('nav li').first().hover();
  await more().click();
  await page.getByLabel('Title').fill('A better name');
  await page.getByRole('button', { name: 'Rename' }).click();
  await page.getByRole('heading', { name: 'A better name' }).waitFor();
  const download = async (name) => {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name }).click()]);
    return { name: file.suggestedFilename(), path: await file.path() };
  };
  await more().click();
  assert.equal((await download('Export as Markdown')).name, 'A-better-name.md');
  const all = await download('Export all');
  await more().click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('button', { name: 'Delete for good' }).click();
  await page.getByText('No conversations yet.').waitFor();
  await page.getByLabel('Exported conversations').setInputFiles(all.path);
  await page.getByRole('link', { name: 'A better name' }).click();
  await page.locator('.messages').getByText('You said: keep this').waitFor();
});

on('the live view plots', async (page) => {
  await send(page, 'a long one');
  await page.getByText('word word').first().waitFor();
  await page.getByRole('link', { name: 'Live view' }).click();
  const shows = (what, pattern) => until(async () => pattern.test(await what.innerText()));
  await shows(page.getByRole('region', { name: 'Throughput' }), /answers\s+[\d.k]+ tok\/s/);
  await shows(page.getByRole('region', { name: 'KV pages' }), /in use\s+\d+/);
  await shows(page.locator('.live table'), /64 of 64/);
  await shoot(page, 'live-desktop');
  await page.setViewportSize(phone);
  await sleep(300);
  await shoot(page, 'live-phone');
  await page.setViewportSize(desktop);
  await page.getByRole('link', { name: 'Back to the conversation' }).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  await answer(page);
});

on('works on a phone', async (page) => {
  await shoot(page, 'empty-phone');
  await page.getByLabel('Message', { exact: true }).fill('markdown please');
  await page.getByRole('button', { name: 'Send', exact: true }).tap();
  await (await answer(page)).locator('math').nth(1).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), phone.width);
  await shoot(page, 'markdown-phone');
  await page.getByRole('button', { name: 'Conversations' }).tap();
  await page.getByRole('link', { name: 'markdown please' }).waitFor();
  await sleep(200);
  await shoot(page, 'list-phone');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Settings' }).tap();
  await shoot(page, 'settings-phone');
  await page.getByRole('button', { name: 'Close settings' }).tap();
}, { context: { viewport: phone, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } });

test('keeps conversations on a server that offers it, with a key', { skip: executablePath === undefined }, async () => {
  const server = await startMock({ conversations: new Map(), key: 'secret' });
  const { page, context } = await openPageWithKey(server.url);
  await page.getByText('Kept on this server.').waitFor();
  await send(page, 'to the server');
  await answer(page);
  const first = () => [...server.state.conversations.values()][0];
  await until(() => Object.keys(first()?.messages ?? {}).length === 2);
  assert.equal(first().title, 'to the server');
  await context.close();
  server.stop();
});

async function openPageWithKey(url) {
  const context = await browser.newContext({ viewport: desktop });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  await page.goto(url);
  await page.getByLabel('API key').first().waitFor();
  await page.locator('input[type=password]').fill('secret');
  await page.getByRole('button', { name: 'Use' }).click();
  await page.getByLabel('Message', { exact: true }).waitFor();
  return { page, context };
}
