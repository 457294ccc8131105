// A server that answers as the real one does, with answers written in advance: the
// last message of the user chooses one.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.md': 'text/markdown' };

const markdown = `## Why it works

A bicycle **steers into** a fall; see [the paper](https://example.org/paper) or \`lean()\`.

1. The wheel turns towards the lean.
   - quickly
2. The frame follows.

- [x] trail
- [ ] gyroscopes

| Speed (km/h) | Stable | Note |
| ---: | :---: | --- |
| 5 | no | wobbles & falls |
| 20 | yes | rides alone |

\`\`\`python
def lean(angle: float, speed=20):
    """Radians a second."""
    return 9.81 * angle / speed  # small angles
\`\`\`

Inline $\\omega = \\frac{g}{v}\\tan\\theta$, a price of $5 and $6, and a block:

$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$

> Nothing here is new.
`;

export const hostile = `<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 2">

Hello <b onmouseover="window.hacked = 3">bold</b> [click](javascript:window.hacked=4) [data](data:text/html,<script>window.hacked=5</script>)
[spaced](<java
script:window.hacked=6>) [entity](&#106;avascript:window.hacked=7) <javascript:window.hacked=8>

![pixel](http://203.0.113.9/pixel.png "x") ![local](/page/icon.svg) ![js](javascript:window.hacked=9)

<iframe src="http://203.0.113.9/"></iframe><svg onload="window.hacked=10"></svg>

$\\href{javascript:window.hacked=11}{x}$ $\\url{javascript:window.hacked=12}$ $\\includegraphics{http://203.0.113.9/a.png}$ $\\style{background:url(http://203.0.113.9/b.png)}{y}$

\`\`\`html"><script>window.hacked=13</script>
<script>window.hacked = 14</script>
\`\`\`

| a |
| --- |
| <img src=x onerror=window.hacked=15> |

[fine](https://example.org/ok)
`;

const call = { index: 0, id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '' } };
const pieces = (text, size) => text.match(new RegExp(`[\\s\\S]{1,${size}}`, 'g')) ?? [];

function deltasFor(text, messages) {
  if (messages.at(-1).role === 'tool') return [{ content: `It is ${messages.at(-1).content}.` }];
  if (/markdown/i.test(text)) return pieces(markdown, 7).map((content) => ({ content }));
  if (/hostile/i.test(text)) return pieces(hostile, 5).map((content) => ({ content }));
  if (/think/i.test(text)) return [...pieces('First I look at the parts.\n\nThen at the whole.', 4).map((reasoning_content) => ({ reasoning_content })), ...pieces('The answer is **42**.', 3).map((content) => ({ content }))];
  if (/weather/i.test(text)) return [{ tool_calls: [call] }, ...pieces('{"city":"Oslo","days":2}', 6).map((part) => ({ tool_calls: [{ index: 0, function: { arguments: part } }] }))];
  if (/long/i.test(text)) return pieces('word '.repeat(4000), 5).map((content) => ({ content }));
  return pieces(`You said: ${text}`, 4).map((content) => ({ content }));
}

// `options`: capabilities, keys, conversations (a Map: the server keeps them).
export async function startMock(options = {}) {
  const requests = []; // bodies of chat requests
  const state = { aborted: 0, running: 0, made: 0, ...options };
  let policy = '';

  const json = (response, status, value) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };

  async function chat(response, body) {
    requests.push(body);
    const content = body.messages.filter((message) => message.role === 'user').at(-1)?.content ?? '';
    const text = typeof content === 'string' ? content : content.filter((part) => part.type === 'text').map((part) => part.text).join(' ');
    if (/refuse/i.test(text)) return json(response, 400, { error: { message: 'messages[0].content[0].type: this model takes text', type: 'invalid_request_error' } });
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    let open = true;
    response.on('close', () => (open = false));
    const send = (value) => response.write(`data: ${JSON.stringify({ model: body.model, ...value })}\n\n`);
    state.running++;
    send({ choices: [{ index: 0, delta: { role: 'assistant', content: '' } }] });
    for (const done of [16, 64]) {
      response.write(`: keepalive ${done}/64\n\n`);
      await sleep(20);
    }
    const deltas = deltasFor(text, body.messages);
    for (const delta of deltas) {
      if (!open) break;
      send({ choices: [{ index: 0, delta, finish_reason: null }] });
      state.made++;
      await sleep(/long/i.test(text) ? 10 : 1);
      if (/broken/i.test(text)) {
        send({ error: { message: 'the step failed', type: 'server_error' } });
        break;
      }
    }
    state.running--;
    if (!open) return void state.aborted++;
    send({ choices: [{ index: 0, delta: {}, finish_reason: deltas.at(-1)?.tool_calls ? 'tool_calls' : 'stop' }] });
    send({ choices: [], usage: { prompt_tokens: 64, completion_tokens: deltas.length, total_tokens: 64 + deltas.length, prompt_tokens_details: { cached_tokens: 48 } }, timings: { predicted_per_second: 41.7, prompt_n: 16, cache_n: 48 } });
    response.end('data: [DONE]\n\n');
  }

  const metrics = () => `# TYPE mlxlm:tokens_predicted_total counter
mlxlm:tokens_predicted_total ${state.made}
mlxlm:prompt_tokens_total ${requests.length * 64}
mlxlm:prompt_cached_tokens_total ${requests.length * 48}
mlxlm:requests_processing ${state.running}
mlxlm:requests_deferred ${state.running > 1 ? 3 : 0}
mlxlm:kv_pages_used ${40 + state.running * 6 + (state.made % 7)}
mlxlm:kv_pages_cached 12
mlxlm:kv_pages_total 256
mlxlm:resident_bytes ${900e6 + state.made * 2e5}
mlxlm:weights_bytes 2.7e8
mlxlm:request_success_total{finished_reason="stop"} ${requests.length}
mlxlm:time_to_first_token_seconds_sum 1.2
mlxlm:time_to_first_token_seconds_count 10
`;

  function conversations(request, response, id, body) {
    const kept = state.conversations;
    if (kept === undefined) return json(response, 404, { error: { message: 'no such route' } });
    if (request.method === 'PUT') kept.set(id, JSON.parse(body));
    else if (request.method === 'DELETE') kept.delete(id);
    else if (id === undefined) return json(response, 200, { data: [...kept.values()].map(({ id, title, updated }) => ({ id, title, updated })) });
    else return kept.has(id) ? json(response, 200, kept.get(id)) : json(response, 404, { error: { message: 'none' } });
    response.writeHead(204).end();
  }

  async function page(response, path) {
    const file = normalize(join(dist, path === '/' ? 'index.html' : path));
    const bytes = file.startsWith(dist) ? await readFile(file).catch(() => undefined) : undefined;
    if (bytes === undefined) return json(response, 404, { error: { message: 'no such page' } });
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream', 'content-security-policy': `${policy}; frame-ancestors 'none'`, 'x-content-type-options': 'nosniff' });
    response.end(bytes);
  }

  async function handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const [path] = request.url.split('?');
    const open = path === '/' || path.startsWith('/page/');
    if (state.key && !open && request.headers.authorization !== `Bearer ${state.key}`) return json(response, 401, { error: { message: 'a key is needed' } });
    const [, first, id] = path.split('/');
    if (first === 'conversations') return conversations(request, response, id, body);
    switch (path) {
      case '/v1/models': return json(response, 200, { object: 'list', data: [{ id: 'mock/Small-1B-Instruct' }, { id: 'mock/Large-7B' }] });
      case '/props': return json(response, 200, { capabilities: { chat: true, vision: true, audio: false, ...state.capabilities }, default_generation_settings: { temperature: 0.7, top_p: 0.95 } });
      case '/metrics': return response.writeHead(200, { 'content-type': 'text/plain' }).end(metrics());
      case '/slots': return json(response, 200, state.running > 0 ? [{ id: 1, client: '127.0.0.1', phase: 'answer', n_prompt_tokens: 64, n_prompt_tokens_processed: 64, n_decoded: state.made }] : []);
      case '/v1/chat/completions': return chat(response, JSON.parse(body));
      default: return page(response, path);
    }
  }

  policy = /Content-Security-Policy"\s+content="([^"]+)"/.exec(await readFile(join(dist, 'index.html'), 'utf8'))[1];
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  return {
    url: `http://127.0.0.1:${server.address().port}/`, requests, state,
    stop: () => { server.closeAllConnections(); server.close(); },
  };
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
