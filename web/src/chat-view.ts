// A conversation: its messages, the composer, and what is done with them.
import { Composer } from './composer';
import { add, childrenOf, newConversation, shownPath, type Attachment, type Conversation, type Message, type Settings } from './conversation';
import { h, iconButton } from './dom';
import { MessageView, type Place } from './message-view';
import { Runs, type Progress } from './runs';
import type { Store } from './store';

export interface ChatHost {
  store: Store;
  model(): string;
  defaults(): Settings;
  listChanged(): void; // titles, order
  opened(conversation: Conversation): void; // a new one got its first message
  failed(message: string): void;
}

export class ChatView {
  readonly element: HTMLElement;
  readonly composer: Composer;
  conversation: Conversation;
  private readonly messages = h('div', { class: 'messages' });
  private readonly scroller = h('div', { class: 'scroller', tabindex: '-1' }, this.messages);
  private readonly latest = iconButton('down', 'To the latest message', () => this.toEnd(true), { class: 'icon-button latest', hidden: true });
  private views = new Map<string, MessageView>();
  private sticking = true; // to the end, while an answer grows
  private due = false;
  private readonly runs: Runs;

  constructor(private readonly host: ChatHost) {
    this.conversation = newConversation(host.defaults());
    this.composer = new Composer((text, files) => this.sendNew(text, files), () => this.stop());
    this.runs = new Runs((progress) => this.changed(progress), (conversation) => this.keep(conversation), host.store.keepEvery);
    this.element = h('section', { class: 'chat', 'aria-label': 'Conversation' }, this.scroller,
      h('div', { class: 'composer-place' }, this.latest, this.composer.element,
        h('p', { class: 'hint' }, 'Answers can be wrong. Nothing leaves this server.')));
    this.scroller.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.sticking = scrollHeight - scrollTop - clientHeight < 60;
      this.latest.hidden = this.sticking;
    });
    this.dropping();
  }

  // Shows another conversation, or an empty one.
  show(conversation: Conversation | undefined): void {
    this.conversation = conversation ?? newConversation(this.host.defaults());
    this.views.clear();
    this.messages.replaceChildren();
    this.sticking = true;
    this.render();
    this.toEnd(false);
  }

  get running(): boolean {
    return this.runs.of(this.conversation.id) !== undefined;
  }

  // The conversation of this id if an answer of it is being made: newer than any store.
  alive(id: string): Conversation | undefined {
    return this.runs.of(id)?.conversation;
  }

  stop(id = this.conversation.id): void {
    this.runs.stop(id);
  }

  keep(conversation: Conversation): void {
    this.host.store.put(conversation).then(
      () => this.host.listChanged(),
      (error: Error) => this.host.failed(error.message),
    );
  }

  private sendNew(text: string, attachments: Attachment[]): void {
    const { conversation } = this;
    const parent = shownPath(conversation).at(-1)?.id ?? null;
    this.ask(parent, text, attachments);
  }

  private ask(parent: string | null, text: string, attachments: Attachment[]): void {
    const { conversation } = this;
    const first = Object.keys(conversation.messages).length === 0;
    const message = add(conversation, { parent, role: 'user', text, ...(attachments.length > 0 ? { attachments } : {}) });
    this.keep(conversation);
    if (first) this.host.opened(conversation);
    this.answer(message.id);
  }

  private answer(parent: string): void {
    this.sticking = true;
    void this.runs.answer(this.conversation, parent, this.host.model());
    this.toEnd(true);
  }

  private edit(message: Message, text: string): void {
    this.ask(message.parent, text, message.attachments ?? []);
    this.composer.focus();
  }

  private retry(message: Message): void {
    if (this.running || message.parent === null) return;
    this.answer(message.parent);
    this.composer.focus();
  }

  private pick(message: Message, step: -1 | 1): void {
    const siblings = childrenOf(this.conversation, message.parent);
    const next = siblings[siblings.findIndex((one) => one.id === message.id) + step];
    if (next === undefined) return;
    this.conversation.picks[message.parent ?? ''] = next.id;
    this.keep(this.conversation);
    this.render();
    // The same button of the message that came in its place.
    const label = step === 1 ? 'Version after' : 'Version before';
    const view = this.views.get(next.id)?.element;
    const button = view?.querySelector<HTMLButtonElement>(`[aria-label="${label}"]`);
    (button?.disabled === false ? button : view)?.focus();
  }

  private changed(progress: Progress): void {
    if (progress.conversation !== this.conversation || this.due) return;
    this.due = true;
    // Hidden pages draw no frames.
    const soon = document.hidden ? (f: () => void) => setTimeout(f, 200) : requestAnimationFrame;
    soon(() => {
      this.due = false;
      this.render();
    });
  }

  render(): void {
    const path = shownPath(this.conversation);
    const progress = this.runs.of(this.conversation.id);
    const shown = new Set(path.map((message) => message.id));
    for (const [id, view] of this.views) {
      if (shown.has(id)) continue;
      view.element.remove();
      this.views.delete(id);
    }
    const actions = {
      edit: (message: Message, text: string) => this.edit(message, text),
      retry: (message: Message) => this.retry(message),
      pick: (message: Message, step: -1 | 1) => this.pick(message, step),
    };
    const elements = path.map((message, index) => {
      const view = this.views.get(message.id) ?? new MessageView(message, actions);
      this.views.set(message.id, view);
      const siblings = childrenOf(this.conversation, message.parent);
      const place: Place = { index: siblings.indexOf(message), siblings: siblings.length, last: index === path.length - 1 };
      view.update(place, progress?.message === message ? progress : undefined);
      return view.element;
    });
    this.place(elements, path.length === 0);
    this.toolForm(path, progress !== undefined);
    this.composer.running(progress !== undefined);
    this.element.classList.toggle('empty', path.length === 0);
    if (this.sticking) this.toEnd(false);
  }

  // Moves only what is not in its place: a moved element loses focus and scrolling.
  private place(elements: HTMLElement[], empty: boolean): void {
    this.messages.querySelector(':scope > .welcome')?.remove();
    if (empty) this.messages.replaceChildren(this.welcome());
    elements.forEach((element, index) => {
      if (this.messages.children[index] !== element) this.messages.insertBefore(element, this.messages.children[index] ?? null);
    });
    if (!empty) while (this.messages.children.length > elements.length && !this.messages.lastElementChild?.matches('.tool-form')) this.messages.lastElementChild?.remove();
  }

  private welcome(): HTMLElement {
    const ideas = ['Explain how a bicycle stays upright', 'Write a Python function that finds anagrams', 'Plan a quiet weekend in the mountains'];
    return h('div', { class: 'welcome' }, h('h2', {}, 'What would you like to know?'),
      h('ul', {}, ...ideas.map((idea) => h('li', {}, h('button', { type: 'button', onclick: () => this.composer.fill(idea) }, idea)))));
  }

  // A model that called tools waits for their results: somebody types them in.
  private toolForm(path: Message[], running: boolean): void {
    const last = path.at(-1);
    const before = this.messages.querySelector<HTMLElement>(':scope > .tool-form');
    if (running || last?.role !== 'assistant' || !last.calls?.length) return before?.remove();
    if (before?.dataset.id === last.id) return;
    before?.remove();
    const areas = last.calls.map((call) => h('textarea', { rows: 2, 'aria-label': `Result of ${call.name}` }));
    const submit = (event: Event) => {
      event.preventDefault();
      let parent = last.id;
      last.calls!.forEach((call, index) => {
        parent = add(this.conversation, { parent, role: 'tool', text: areas[index]!.value, callId: call.id }).id;
      });
      this.keep(this.conversation);
      this.answer(parent);
    };
    this.messages.append(
      h('form', { class: 'tool-form', 'data-id': last.id, onsubmit: submit },
        h('p', {}, 'The model waits for results.'),
        ...last.calls.map((call, index) => h('label', {}, h('span', {}, `Result of ${call.name}`), areas[index]!)),
        h('button', { type: 'submit', class: 'primary' }, 'Send results')));
  }

  private toEnd(smooth: boolean): void {
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smooth && !matchMedia('(prefers-reduced-motion: reduce)').matches ? 'smooth' : 'instant' });
  }

  private dropping(): void {
    let depth = 0;
    const has = (event: DragEvent) => event.dataTransfer?.types.includes('Files') === true;
    const mark = (by: number) => this.element.classList.toggle('dropping', (depth = Math.max(0, depth + by)) > 0);
    this.element.addEventListener('dragenter', (event) => has(event) && mark(1));
    this.element.addEventListener('dragleave', (event) => has(event) && mark(-1));
    this.element.addEventListener('dragover', (event) => has(event) && event.preventDefault());
    this.element.addEventListener('drop', (event) => {
      if (!has(event)) return;
      event.preventDefault();
      mark(-depth);
      void this.composer.take([...(event.dataTransfer?.files ?? [])]);
    });
  }
}
