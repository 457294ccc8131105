// The server, as OpenAI's clients see it. Only paths relative to the page are asked.

import type { Stats } from './conversation';

let key = '';
let askForKey: () => Promise<string | undefined> = async () => undefined;

// `ask` is called when the server wants a key; its answer is tried once.
export function useKey(known: string, ask: () => Promise<string | undefined>): void {
  key = known;
  askForKey = ask;
}

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

let asking: Promise<string | undefined> | undefined;
let declined = false; // a key was asked for and not given

// Asks once, whoever needs the key. `insist` asks even somebody who gave none before.
async function newKey(tried: string, insist: boolean): Promise<boolean> {
  if (key !== tried) return true; // somebody else asked meanwhile
  if (declined && !insist) return false;
  asking ??= askForKey().finally(() => (asking = undefined));
  const given = await asking;
  declined = given === undefined;
  key = given ?? key;
  return given !== undefined;
}

export async function request(path: string, options: RequestInit = {}, insist = false): Promise<Response> {
  for (;;) {
    const tried = key;
    const headers = new Headers(options.headers);
    if (tried !== '') headers.set('authorization', `Bearer ${tried}`);
    const response = await fetch(`./${path}`, { ...options, headers, cache: 'no-store', redirect: 'error' });
    if (response.status !== 401 || !(await newKey(tried, insist))) return response;
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  let message = '';
  try {
    message = JSON.parse(text).error.message;
  } catch {
    message = text.slice(0, 300);
  }
  const wait = Number(response.headers.get('retry-after')) || undefined;
  return new ApiError(message || `the server answered ${response.status}`, response.status, wait);
}

export async function getJson<T>(path: string): Promise<T | undefined> {
  const response = await request(path).catch(() => undefined);
  return response?.ok === true ? ((await response.json().catch(() => undefined)) as T) : undefined;
}

export interface ModelEntry {
  id: string;
}

export const listModels = async (): Promise<ModelEntry[]> =>
  (await getJson<{ data?: ModelEntry[] }>('v1/models'))?.data ?? [];

// What /props tells; every field may be missing.
export interface Props {
  capabilities?: { tools?: boolean; reasoning?: boolean; thinking_switch?: boolean; vision?: boolean; audio?: boolean };
  modalities?: { vision?: boolean; audio?: boolean }; // llama-server's name for two of them
  default_generation_settings?: Record<string, unknown>;
  n_ctx?: number;
}

export const getProps = async (model: string): Promise<Props> =>
  (await getJson<Props>(`props?model=${encodeURIComponent(model)}`)) ?? {};

// ---------------------------------------------------------------- streams

// Lines of a body, as they arrive.
async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const parts = rest.split(/\r\n|\n|\r(?!$)/);
      rest = parts.pop() ?? '';
      yield* parts;
      if (done) break;
    }
    if (rest !== '') yield rest;
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

interface CallDelta {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

export type ChatEvent =
  | { kind: 'delta'; text?: string; reasoning?: string; calls?: CallDelta[]; model?: string }
  | { kind: 'finish'; reason: string }
  | { kind: 'prefill'; done: number; total: number }
  | { kind: 'stats'; stats: Stats };

interface Chunk {
  error?: { message?: string; code?: unknown };
  model?: string;
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null; reasoning?: string | null; tool_calls?: CallDelta[] };
    finish_reason?: string | null;
  }[];
  usage?: {
    prompt_tokens?: number;
    completion_tokens?: number;
    prompt_tokens_details?: { cached_tokens?: number };
    completion_tokens_details?: { reasoning_tokens?: number };
  } | null;
  timings?: {
    prompt_n?: number;
    cache_n?: number;
    prompt_per_second?: number;
    predicted_n?: number;
    predicted_per_second?: number;
    draft_n?: number;
    draft_n_accepted?: number;
  };
}

function statsOf({ usage, timings }: Chunk): Stats | undefined {
  if (!usage && !timings) return undefined;
  const stats: Stats = {
    // llama-server's prompt_n counts only what was not in the cache.
    prompt: usage?.prompt_tokens ?? (timings?.prompt_n !== undefined ? timings.prompt_n + (timings.cache_n ?? 0) : undefined),
    cached: usage?.prompt_tokens_details?.cached_tokens ?? timings?.cache_n,
    predicted: usage?.completion_tokens ?? timings?.predicted_n,
    reasoning: usage?.completion_tokens_details?.reasoning_tokens,
    perSecond: timings?.predicted_per_second,
    promptPerSecond: timings?.prompt_per_second,
    drafted: timings?.draft_n,
    accepted: timings?.draft_n_accepted,
  };
  return Object.fromEntries(Object.entries(stats).filter(([, value]) => value !== undefined));
}

function* eventsOf(chunk: Chunk): Generator<ChatEvent> {
  if (chunk.error) throw new ApiError(chunk.error.message ?? 'the server ended the answer with an error', 200);
  const choice = chunk.choices?.[0];
  const { content, reasoning_content, reasoning, tool_calls } = choice?.delta ?? {};
  const thought = reasoning_content ?? reasoning ?? undefined;
  if (content || thought || tool_calls) {
    yield { kind: 'delta', text: content ?? undefined, reasoning: thought, calls: tool_calls, model: chunk.model };
  }
  const stats = statsOf(chunk);
  if (stats !== undefined) yield { kind: 'stats', stats };
  if (choice?.finish_reason) yield { kind: 'finish', reason: choice.finish_reason };
}

export async function* streamChat(body: unknown, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  const headers = { 'content-type': 'application/json' };
  const response = await request('v1/chat/completions', { method: 'POST', headers, body: JSON.stringify(body), signal }, true);
  if (!response.ok || response.body === null) throw await errorOf(response);
  for await (const line of lines(response.body)) {
    if (line.startsWith(':')) {
      const progress = /^:\s*keepalive (\d+)\/(\d+)/.exec(line);
      if (progress) yield { kind: 'prefill', done: Number(progress[1]), total: Number(progress[2]) };
    } else if (line.startsWith('data:')) {
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      let chunk: Chunk;
      try {
        chunk = JSON.parse(data);
      } catch {
        throw new ApiError('expected JSON in the stream, found something else', 200);
      }
      yield* eventsOf(chunk);
    }
  }
  throw new ApiError('the connection ended in the middle of the answer', 200);
}
