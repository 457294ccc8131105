// Answers being made: one a conversation, going on while another one is looked at.
import { ApiError, streamChat, type ChatEvent } from './api';
import { partOf } from './attachments';
import { add, pathTo, type Conversation, type Message, type ToolCall } from './conversation';
import { requestFields } from './settings';

function messageOf(message: Message): Record<string, unknown> {
  if (message.role === 'tool') return { role: 'tool', tool_call_id: message.callId, content: message.text };
  if (message.role === 'assistant') {
    return {
      role: 'assistant',
      content: message.text,
      ...(message.reasoning ? { reasoning_content: message.reasoning } : {}),
      ...(message.calls?.length
        ? { tool_calls: message.calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })) }
        : {}),
    };
  }
  if (!message.attachments?.length) return { role: 'user', content: message.text };
  const text = message.text === '' ? [] : [{ type: 'text', text: message.text }];
  return { role: 'user', content: [...message.attachments.map(partOf), ...text] };
}

export function requestBody(conversation: Conversation, upTo: string, model: string): Record<string, unknown> {
  const system = String(conversation.settings.system ?? '').trim();
  const messages = pathTo(conversation, upTo)
    .filter((message) => message.role !== 'assistant' || message.text !== '' || message.calls?.length)
    .map(messageOf);
  if (system !== '') messages.unshift({ role: 'system', content: system });
  return { model, messages, ...requestFields(conversation.settings), stream: true, stream_options: { include_usage: true } };
}

function mergeCalls(message: Message, event: ChatEvent & { kind: 'delta' }): void {
  for (const delta of event.calls ?? []) {
    const calls: ToolCall[] = (message.calls ??= []);
    const index = delta.index ?? Math.max(0, calls.length - 1);
    if (index > calls.length) continue;
    const call = (calls[index] ??= { id: '', name: '', arguments: '' });
    if (delta.id) call.id = delta.id;
    if (delta.function?.name) call.name = delta.function.name;
    call.arguments += delta.function?.arguments ?? '';
  }
}

export interface Progress {
  conversation: Conversation;
  message: Message;
  prefill?: { done: number; total: number };
  perSecond?: number; // measured here while the answer runs
  started: number;
  ended: boolean;
}

class Run {
  readonly abort = new AbortController();
  readonly done: Promise<void>;
  finish: () => void = () => undefined;
  readonly progress: Progress;
  private deltas = 0;
  private first = 0; // when the first piece came

  constructor(conversation: Conversation, message: Message) {
    this.progress = { conversation, message, started: performance.now(), ended: false };
    this.done = new Promise((resolve) => (this.finish = resolve));
  }

  take(event: ChatEvent): void {
    const { message } = this.progress;
    switch (event.kind) {
      case 'prefill':
        this.progress.prefill = event;
        return;
      case 'delta':
        this.delta(event);
        return;
      case 'stats':
        message.stats = { ...message.stats, ...event.stats };
        return;
      case 'finish':
        message.finish = event.reason;
    }
  }

  private delta(event: ChatEvent & { kind: 'delta' }): void {
    const { progress } = this;
    const { message } = progress;
    const now = performance.now();
    if (this.deltas++ === 0) this.first = now;
    progress.prefill = undefined;
    const seconds = (now - this.first) / 1000;
    if (this.deltas > 4 && seconds > 0.25) progress.perSecond = (this.deltas - 1) / seconds;
    if (event.model) message.model = event.model;
    if (event.reasoning) message.reasoning = (message.reasoning ?? '') + event.reasoning;
    if (event.text) {
      if (message.reasoning && message.reasoningMs === undefined) message.reasoningMs = now - this.first;
      message.text += event.text;
    }
    mergeCalls(message, event);
  }

  end(): void {
    const { message, started } = this.progress;
    const now = performance.now();
    const stats = (message.stats ??= {});
    stats.totalMs = now - started;
    if (this.first > 0) {
      stats.firstMs = this.first - started;
      stats.perSecond ??= (stats.predicted ?? this.deltas) > 1 && now > this.first
        ? ((stats.predicted ?? this.deltas) - 1) / ((now - this.first) / 1000) : undefined;
      if (message.reasoning) message.reasoningMs ??= now - this.first;
    }
    this.progress.prefill = undefined;
    this.progress.ended = true;
  }
}

export class Runs {
  private readonly running = new Map<string, Run>();

  constructor(
    private readonly changed: (progress: Progress) => void,
    private readonly keep: (conversation: Conversation) => void,
    private readonly keepEvery: number, // ms, while an answer grows
  ) {}

  of(conversation: string): Progress | undefined {
    return this.running.get(conversation)?.progress;
  }

  stop(conversation: string): void {
    this.running.get(conversation)?.abort.abort();
  }

  // Answers the message `parent` with a new child of it; another answer ends first.
  async answer(conversation: Conversation, parent: string, model: string): Promise<void> {
    const before = this.running.get(conversation.id);
    if (before !== undefined) {
      before.abort.abort();
      await before.done;
    }
    const body = requestBody(conversation, parent, model);
    // Until it ends, a page that is closed leaves an interrupted answer.
    const message = add(conversation, { parent, role: 'assistant', text: '', model, finish: 'interrupted' });
    const run = new Run(conversation, message);
    this.running.set(conversation.id, run);
    this.changed(run.progress);
    let kept = performance.now();
    try {
      for await (const event of streamChat(body, run.abort.signal)) {
        run.take(event);
        this.changed(run.progress);
        if (performance.now() - kept > this.keepEvery) {
          kept = performance.now();
          this.keep(conversation);
        }
      }
      if (message.finish === 'interrupted') message.finish = 'stop';
    } catch (error) {
      message.finish = run.abort.signal.aborted ? 'stopped' : 'error';
      if (message.finish === 'error') message.error = words(error);
    }
    run.end();
    this.running.delete(conversation.id);
    conversation.updated = Date.now();
    this.changed(run.progress);
    this.keep(conversation);
    run.finish();
  }
}

function words(error: unknown): string {
  if (error instanceof ApiError) {
    return error.retryAfter !== undefined ? `${error.message} (try again in ${error.retryAfter} s)` : error.message;
  }
  return 'The server cannot be reached. Is it running?';
}
