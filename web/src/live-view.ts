// What the server does right now, from /metrics and /slots, once a second.
import { request } from './api';
import { Chart } from './chart';
import { h } from './dom';
import { parse, sumOf, type Sample } from './prometheus';

const points = 180; // one a second
const interval = 1000; // ms

const count = (value: number) => (value >= 10_000 ? `${(value / 1000).toFixed(0)}k` : value >= 100 ? value.toFixed(0) : String(Math.round(value * 10) / 10));
const perSecond = (value: number) => `${count(value)} tok/s`;
const bytes = (value: number) => (value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${Math.round(value / 2 ** 20)} MiB`);

interface Slot {
  id?: number | string;
  client?: string;
  phase?: string; // waiting, prompt, answer
  n_prompt_tokens?: number;
  n_prompt_tokens_processed?: number;
  n_decoded?: number;
}

export class LiveView {
  readonly element: HTMLElement;
  private readonly note = h('p', { class: 'notice', role: 'status' });
  private readonly slots = h('div', { class: 'table-scroll' });
  private readonly tiles = h('dl', { class: 'tiles' });
  private timer: ReturnType<typeof setTimeout> | undefined;
  private before: { time: number; prompt?: number; made?: number } | undefined;
  private pages: number | undefined; // as many as there can be
  private kv: Chart | undefined; // made when it is known what the server counts
  private readonly speed = new Chart('Throughput', [{ label: 'answers', unit: perSecond }, { label: 'prompts', unit: perSecond }], points);
  private readonly queue = new Chart('Requests', [{ label: 'running', unit: count }, { label: 'waiting', unit: count }], points);
  private readonly memory = new Chart('Memory', [{ label: 'process', unit: bytes, binary: true }, { label: 'weights', unit: bytes }], points);

  private readonly charts = h('div', { class: 'charts' }, this.speed.element, this.queue.element, this.memory.element);

  constructor() {
    this.element = h('section', { class: 'live', 'aria-label': 'Live view' },
      h('div', { class: 'live-inner' }, h('h2', {}, 'Live'), this.note, this.tiles,
        this.charts,
        h('h3', {}, 'Requests now'), this.slots));
  }

  start(): void {
    if (this.timer === undefined) void this.tick();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.before = undefined;
  }

  private async tick(): Promise<void> {
    this.timer = setTimeout(() => void this.tick(), interval);
    if (document.hidden) return;
    const [metrics, slots] = await Promise.all([request('metrics').catch(() => undefined), request('slots').catch(() => undefined)]);
    if (this.timer === undefined) return;
    if (metrics?.ok !== true) {
      this.note.textContent = metrics === undefined ? 'The server cannot be reached.' : `This server gives no metrics (${metrics.status}).`;
      return;
    }
    this.note.textContent = '';
    this.take(parse(await metrics.text()));
    this.showSlots(slots?.ok === true ? ((await slots.json().catch(() => [])) as Slot[]) : []);
  }

  private take(samples: Sample[]): void {
    const now = { time: performance.now(), prompt: sumOf(samples, 'prompt_tokens_total'), made: sumOf(samples, 'tokens_predicted_total', 'generation_tokens_total') };
    const rate = (key: 'prompt' | 'made') => {
      const last = this.before?.[key];
      if (this.before === undefined || last === undefined || now[key] === undefined) return undefined;
      // A smaller count is a server that started again.
      return Math.max(0, (now[key] - last) / ((now.time - this.before.time) / 1000));
    };
    this.speed.add([rate('made'), rate('prompt')]);
    this.before = now;
    const running = sumOf(samples, 'requests_processing', 'num_requests_running');
    const waiting = sumOf(samples, 'requests_deferred', 'num_requests_waiting');
    this.queue.add([running, waiting]);
    this.takeKv(samples);
    this.memory.add([sumOf(samples, 'resident_bytes', 'process_resident_memory_bytes'), sumOf(samples, 'weights_bytes')]);
    this.totals(samples, now);
  }

  // Pages where the server counts them, else their bytes.
  private takeKv(samples: Sample[]): void {
    this.pages = sumOf(samples, 'kv_pages_total') || undefined;
    const used = sumOf(samples, 'kv_pages_used');
    const kept = sumOf(samples, 'kv_pages_cached');
    const inBytes = sumOf(samples, 'kv_bytes');
    if (used === undefined && inBytes === undefined) return;
    if (this.kv === undefined) {
      this.kv = used !== undefined
        ? new Chart('KV pages', [{ label: 'in use', unit: count }, { label: 'kept for reuse', unit: count }], points, () => this.pages)
        : new Chart('KV pages', [{ label: 'memory', unit: bytes, binary: true }], points);
      this.queue.element.after(this.kv.element);
    }
    this.kv.add(used !== undefined ? [used, kept] : [inBytes]);
  }

  private totals(samples: Sample[], now: { prompt?: number; made?: number }): void {
    const cached = sumOf(samples, 'prompt_cached_tokens_total');
    const share = cached !== undefined && now.prompt ? `${Math.round((100 * cached) / Math.max(now.prompt, cached))} %` : undefined;
    const mean = (name: string) => {
      const sum = sumOf(samples, `${name}_sum`), of = sumOf(samples, `${name}_count`);
      return sum !== undefined && of ? `${((1000 * sum) / of).toFixed(0)} ms` : undefined;
    };
    const requests = sumOf(samples, 'request_success_total');
    const tiles: [string, string | undefined][] = [
      ['Requests', requests === undefined ? undefined : count(requests)],
      ['Tokens answered', now.made === undefined ? undefined : count(now.made)],
      ['Tokens read', now.prompt === undefined ? undefined : count(now.prompt)],
      ['From cache', share],
      ['First token, mean', mean('time_to_first_token_seconds')],
      ['Between tokens, mean', mean('time_per_output_token_seconds')],
    ];
    this.tiles.replaceChildren(...tiles.filter(([, value]) => value !== undefined).map(([label, value]) => h('div', {}, h('dt', {}, label), h('dd', {}, value))));
  }

  private showSlots(slots: Slot[]): void {
    if (!Array.isArray(slots) || slots.length === 0) {
      this.slots.replaceChildren(h('p', { class: 'where' }, 'Nothing is being answered.'));
      return;
    }
    const cell = (value: unknown) => h('td', {}, value === undefined ? '–' : String(value));
    const read = (slot: Slot) => (slot.n_prompt_tokens === undefined ? undefined : `${slot.n_prompt_tokens_processed ?? slot.n_prompt_tokens} of ${slot.n_prompt_tokens}`);
    this.slots.replaceChildren(
      h('table', {},
        h('thead', {}, h('tr', {}, ...['Number', 'Client', 'Phase', 'Prompt', 'Answered'].map((name) => h('th', { scope: 'col' }, name)))),
        h('tbody', {}, ...slots.map((slot) => h('tr', {}, cell(slot.id), cell(slot.client), cell(slot.phase), cell(read(slot)), cell(slot.n_decoded))))));
  }
}
