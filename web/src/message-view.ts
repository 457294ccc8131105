// One message on the page. It is updated in place while an answer grows.
import { type Attachment, type Message, type ToolCall } from './conversation';
import { announce, copyButton, h, icon, iconButton, svg } from './dom';
import { highlight } from './highlight';
import { MarkdownView } from './markdown';
import type { Progress } from './runs';

export interface Actions {
  edit(message: Message, text: string): void;
  retry(message: Message): void;
  pick(message: Message, step: -1 | 1): void;
}

export interface Place {
  index: number; // among its siblings
  siblings: number;
  last: boolean; // of what is shown
}

const seconds = (ms: number) => (ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`);
const rate = (perSecond: number) => `${perSecond < 99.5 ? perSecond.toFixed(1) : Math.round(perSecond)} tok/s`;

function statsLine(message: Message): [text: string, help: string][] {
  const stats = message.stats ?? {};
  const parts: [string, string][] = [];
  if (stats.predicted !== undefined) parts.push([`${stats.predicted} tokens`, 'Length of the answer']);
  if (stats.perSecond !== undefined) parts.push([rate(stats.perSecond), 'Speed of the answer']);
  if (stats.firstMs !== undefined) parts.push([`first after ${seconds(stats.firstMs)}`, 'From sending to the first token']);
  if (stats.prompt !== undefined) {
    const share = stats.cached ? `, ${stats.cached} from cache` : '';
    parts.push([`prompt ${stats.prompt}${share}`, 'Tokens that were read, and how many of them the server still knew']);
  }
  if (stats.drafted) parts.push([`drafts ${stats.accepted ?? 0}/${stats.drafted}`, 'Guessed tokens that were kept']);
  return parts;
}

const endings: Record<string, string> = {
  length: 'Ended at the longest length',
  stopped: 'Stopped',
  interrupted: 'Interrupted',
  content_filter: 'Ended by the filter',
};

export function attachmentView(attachment: Attachment, remove?: () => void): HTMLElement {
  const { kind, name, data } = attachment;
  // Only what this page itself read from a file is shown as a picture.
  const safe = /^data:(image|audio)\/[\w.+-]+;base64,/.test(data);
  let shown: HTMLElement;
  if (kind === 'image' && safe) shown = h('img', { src: data, alt: name });
  else if (kind === 'audio' && safe) shown = h('audio', { src: data, controls: true, 'aria-label': name });
  else shown = h('span', { class: 'file-chip' }, icon('file'), h('span', { class: 'file-name' }, name));
  const size = attachment.size < 1024 ? `${attachment.size} B` : `${Math.round(attachment.size / 1024)} KB`;
  return h(
    'figure',
    { class: `attachment ${kind}`, title: `${name}, ${size}` },
    shown,
    remove && iconButton('close', `Remove ${name}`, remove, { class: 'icon-button remove' }),
  );
}

function fold(label: string, name: 'brain' | 'tool', content: HTMLElement): { element: HTMLDetailsElement; label: HTMLElement } {
  const text = h('span', {}, label);
  const chevron = svg('svg', { class: 'icon chevron', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: 'M10 6l6 6-6 6' }));
  return { element: h('details', { class: 'fold' }, h('summary', {}, icon(name), text, chevron), content), label: text };
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

export class MessageView {
  readonly element: HTMLElement;
  private readonly body = h('div', { class: 'message-body' });
  private readonly foot = h('footer', { class: 'message-foot' });
  private readonly text = new MarkdownView();
  private reasoning?: { view: MarkdownView; element: HTMLDetailsElement; label: HTMLElement };
  private calls: { key: string; element: HTMLDetailsElement }[] = [];
  private read = 0; // characters of the text that were announced
  private footKey = '';

  constructor(
    readonly message: Message,
    private readonly actions: Actions,
  ) {
    const who = message.role === 'user' ? 'You' : message.role === 'tool' ? 'Result of a tool' : `Answer of ${message.model ?? 'the model'}`;
    this.element = h('article', { class: `message ${message.role}`, 'aria-label': who, tabindex: '-1', 'data-id': message.id }, this.body, this.foot);
    if (message.role === 'user') this.user();
    else if (message.role === 'tool') this.body.append(this.toolResult());
    this.read = message.text.length;
  }

  private user(): void {
    const { attachments = [], text } = this.message;
    const files = attachments.length > 0 && h('div', { class: 'attachments' }, ...attachments.map((one) => attachmentView(one)));
    this.body.replaceChildren(...[files, text !== '' && h('div', { class: 'bubble' }, text)].filter((node) => node instanceof Node));
  }

  private toolResult(): HTMLElement {
    const content = h('pre', { tabindex: '0' }, h('code', {}, ...highlight(pretty(this.message.text), 'json')));
    return fold('Result given to the model', 'tool', content).element;
  }

  // `progress` while the answer runs.
  update(place: Place, progress?: Progress): void {
    if (this.message.role === 'assistant') this.answer(progress);
    this.footer(place, progress !== undefined);
  }

  private answer(progress?: Progress): void {
    const { message } = this;
    this.element.setAttribute('aria-busy', String(progress !== undefined));
    this.thought(progress !== undefined);
    this.text.update(message.text);
    if (this.text.element.parentNode === null) this.body.append(this.text.element);
    this.callViews(progress !== undefined);
    this.body.querySelector(':scope > .waiting')?.remove();
    this.body.querySelector(':scope > .notice')?.remove();
    if (progress !== undefined) this.body.append(this.waiting(progress));
    else if (message.error !== undefined) this.body.append(h('p', { class: 'notice error', role: 'alert' }, message.error));
    else if (endings[message.finish ?? ''] !== undefined) this.body.append(h('p', { class: 'notice' }, endings[message.finish!]));
    this.readOut(progress === undefined);
  }

  private waiting(progress: Progress): HTMLElement {
    const { prefill, perSecond, message } = progress;
    const started = message.text !== '' || message.reasoning !== undefined || message.calls !== undefined;
    let words = started ? '' : 'Waiting for the model';
    if (prefill) words = `Reading ${prefill.done} of ${prefill.total} tokens`;
    if (started && perSecond !== undefined) words = rate(perSecond);
    const bar = prefill && h('progress', { max: prefill.total, value: prefill.done, 'aria-label': 'Prompt read' });
    return h('p', { class: 'waiting' }, h('span', { class: 'dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i')), bar, words);
  }

  private thought(running: boolean): void {
    const { reasoning, reasoningMs, text } = this.message;
    if (!reasoning) return;
    if (this.reasoning === undefined) {
      const view = new MarkdownView();
      this.reasoning = { view, ...fold('', 'brain', view.element) };
      this.reasoning.element.classList.add('reasoning');
      this.body.prepend(this.reasoning.element);
    }
    // Folded text is only laid out when somebody looks.
    const { element, view, label } = this.reasoning;
    if (element.open) view.update(reasoning);
    element.ontoggle = () => element.open && view.update(this.message.reasoning ?? '');
    const thinking = running && text === '' && !this.message.calls;
    label.textContent = thinking ? 'Thinking…' : reasoningMs !== undefined ? `Thought for ${seconds(reasoningMs)}` : 'Thoughts';
    element.classList.toggle('live', thinking);
  }

  private callViews(running: boolean): void {
    (this.message.calls ?? []).forEach((call: ToolCall, index) => {
      const key = `${call.name} ${call.arguments} ${running}`;
      const before = this.calls[index];
      if (before?.key === key) return;
      const content = h('pre', { tabindex: '0' }, h('code', {}, ...highlight(running ? call.arguments : pretty(call.arguments), 'json')));
      const { element } = fold(`Calls ${call.name || '…'}`, 'tool', content);
      element.open = before?.element.open ?? false;
      if (before) before.element.replaceWith(element);
      else this.body.append(element);
      this.calls[index] = { key, element };
    });
  }

  // Screen readers hear an answer paragraph by paragraph, not token by token.
  private readOut(ended: boolean): void {
    const { text } = this.message;
    const end = ended ? text.length : text.lastIndexOf('\n\n');
    if (end <= this.read) return;
    announce(text.slice(this.read, end));
    this.read = end;
  }

  private footer(place: Place, running: boolean): void {
    const { message, actions } = this;
    const key = JSON.stringify([place, running, message.stats, message.finish]);
    if (key === this.footKey) return;
    this.footKey = key;
    // The button that has the focus comes back with the rest.
    const focused = this.foot.contains(document.activeElement) ? document.activeElement?.getAttribute('aria-label') : undefined;
    const nodes: Node[] = [];
    if (place.siblings > 1) {
      const step = (by: -1 | 1) => () => actions.pick(message, by);
      nodes.push(
        h('span', { class: 'branches', role: 'group', 'aria-label': 'Versions' },
          iconButton('left', 'Version before', step(-1), { disabled: place.index === 0 }),
          h('span', { 'aria-live': 'off' }, `${place.index + 1}/${place.siblings}`),
          iconButton('right', 'Version after', step(1), { disabled: place.index === place.siblings - 1 })),
      );
    }
    if (!running && message.role !== 'tool') {
      if (message.text !== '') nodes.push(copyButton('Copy message', () => message.text));
      if (message.role === 'user') nodes.push(iconButton('edit', 'Edit and send again', () => this.startEdit()));
      else nodes.push(iconButton('retry', 'Another answer', () => actions.retry(message)));
    }
    if (!running && message.role === 'assistant') {
      nodes.push(h('span', { class: 'stats' }, ...statsLine(message).map(([text, help]) => h('span', { title: help }, text))));
    }
    this.foot.replaceChildren(...nodes);
    if (focused) (this.foot.querySelector(`[aria-label="${focused}"]`) as HTMLElement | null)?.focus();
  }

  private startEdit(): void {
    const area = h('textarea', { class: 'edit-area', 'aria-label': 'Edit the message', rows: 3, value: this.message.text });
    const end = () => {
      this.user();
      this.element.classList.remove('editing');
      (this.foot.querySelector('[aria-label="Edit and send again"]') as HTMLElement | null)?.focus();
    };
    const send = () => {
      if (area.value.trim() === '') return;
      end();
      this.actions.edit(this.message, area.value);
    };
    area.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') {
        event.stopPropagation();
        end();
      } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
    });
    this.element.classList.add('editing');
    this.body.replaceChildren(
      h('div', { class: 'edit' }, area,
        h('div', { class: 'row' },
          h('button', { type: 'button', class: 'plain', onclick: end }, 'Cancel'),
          h('button', { type: 'button', class: 'primary', onclick: send }, 'Send'))),
    );
    area.focus();
  }
}
