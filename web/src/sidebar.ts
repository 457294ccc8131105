// The list of conversations.
import { readFile, saveJson, saveMarkdown } from './export';
import { h, icon, iconButton, type Icon } from './dom';
import type { Conversation } from './conversation';
import type { Entry, Store } from './store';

export interface SidebarHost {
  store: Store;
  open(id: string | undefined): void;
  close(): void; // on narrow pages
  removed(id: string): void;
  renamed(id: string, title: string): void;
  latest(id: string): Promise<Conversation | undefined>; // as it is now
  failed(message: string): void;
}

const day = 24 * 3600 * 1000;

function groupOf(time: number): string {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return 'Today';
  if (time >= midnight - day) return 'Yesterday';
  return time >= midnight - 7 * day ? 'Last seven days' : 'Older';
}

export class Sidebar {
  readonly element: HTMLElement;
  readonly search = h('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search conversations' });
  private readonly list = h('div', { class: 'conversations' });
  private readonly where = h('p', { class: 'where' });
  private readonly chooser = h('input', { type: 'file', accept: '.json,application/json', hidden: true, multiple: true, 'aria-label': 'Exported conversations' });
  private entries: Entry[] = [];
  private current = '';

  constructor(private readonly host: SidebarHost) {
    const button = (name: Icon, label: string, onclick: () => void) => h('button', { type: 'button', class: 'plain', onclick }, icon(name), label);
    this.element = h(
      'aside',
      { class: 'sidebar', id: 'sidebar', 'aria-label': 'Conversations' },
      h('div', { class: 'sidebar-head' }, h('span', { class: 'brand' }, h('img', { src: './page/icon.svg', alt: '', width: 24, height: 24 }), 'mlxlm'),
        iconButton('close', 'Close the list', () => host.close(), { class: 'icon-button only-narrow' })),
      h('button', { type: 'button', class: 'new-chat', onclick: () => host.open(undefined) }, icon('plus'), 'New conversation'),
      this.search,
      h('nav', { 'aria-label': 'Conversations' }, this.list),
      h('div', { class: 'sidebar-foot' }, this.where,
        h('div', { class: 'row' }, button('save', 'Export all', () => void this.exportAll()), button('upload', 'Import', () => this.chooser.click()), this.chooser)),
    );
    this.search.addEventListener('input', () => this.render());
    this.chooser.addEventListener('change', () => void this.import([...(this.chooser.files ?? [])]));
  }

  async refresh(): Promise<void> {
    this.entries = await this.host.store.list();
    this.where.textContent = `Kept ${this.host.store.where}.`;
    this.render();
  }

  mark(id: string): void {
    this.current = id;
    for (const link of this.list.querySelectorAll('a')) {
      if (link.dataset.id === id) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
  }

  private render(): void {
    const words = this.search.value.trim().toLowerCase();
    const groups = new Map<string, HTMLElement[]>();
    for (const entry of this.entries) {
      if (words !== '' && !entry.title.toLowerCase().includes(words)) continue;
      const group = groupOf(entry.updated);
      groups.set(group, [...(groups.get(group) ?? []), this.item(entry)]);
    }
    const focused = (document.activeElement as HTMLElement | null)?.dataset?.id;
    const held = this.list.contains(document.activeElement);
    this.list.replaceChildren(
      ...[...groups].map(([group, items]) => h('section', { 'aria-label': group }, h('h2', {}, group), h('ul', {}, ...items))),
      ...(groups.size === 0 ? [h('p', { class: 'where' }, words === '' ? 'No conversations yet.' : 'Nothing found.')] : []),
    );
    this.mark(this.current);
    if (held && focused) this.list.querySelector<HTMLElement>(`a[data-id="${focused}"]`)?.focus();
  }

  private item(entry: Entry): HTMLElement {
    const title = entry.title || 'Conversation';
    const link = h('a', { href: `#/c/${entry.id}`, 'data-id': entry.id, title }, title);
    const menu = iconButton('more', `More about ${title}`, (event) => this.menu(entry, event.currentTarget as HTMLElement), { 'aria-haspopup': 'dialog' });
    return h('li', {}, link, menu);
  }

  private menu(entry: Entry, from: HTMLElement): void {
    const name = h('input', { type: 'text', value: entry.title, 'aria-label': 'Title', maxlength: 120 });
    const dialog = h('dialog', { class: 'small', 'aria-label': entry.title });
    const close = () => dialog.close();
    const withIt = (act: (conversation: Conversation) => void) => async () => {
      const conversation = await this.host.latest(entry.id);
      if (conversation) act(conversation);
      close();
    };
    const rename = async (event: Event) => {
      event.preventDefault();
      const title = name.value.trim();
      await withIt((conversation) => {
        conversation.title = title || conversation.title;
        void this.host.store.put(conversation).then(() => this.refresh());
        this.host.renamed(entry.id, conversation.title);
      })();
    };
    const remove = h('button', { type: 'button', class: 'plain danger' }, icon('trash'), 'Delete');
    remove.addEventListener('click', () => {
      // The second press means it.
      if (!remove.classList.contains('sure')) {
        remove.classList.add('sure');
        remove.lastChild!.textContent = 'Delete for good';
        return;
      }
      close();
      this.host.removed(entry.id);
      void this.host.store.remove(entry.id).then(() => this.refresh());
    });
    dialog.append(
      h('form', { onsubmit: rename }, h('label', {}, h('span', {}, 'Title'), name), h('button', { type: 'submit', class: 'primary' }, 'Rename')),
      h('div', { class: 'menu' },
        h('button', { type: 'button', class: 'plain', onclick: withIt(saveMarkdown) }, icon('save'), 'Export as Markdown'),
        h('button', { type: 'button', class: 'plain', onclick: withIt((one) => saveJson([one])) }, icon('save'), 'Export as JSON'),
        remove,
        h('button', { type: 'button', class: 'plain', onclick: close }, icon('close'), 'Close')),
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      (from.isConnected ? from : this.search).focus();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  private async exportAll(): Promise<void> {
    const all = await Promise.all(this.entries.map(({ id }) => this.host.latest(id)));
    saveJson(all.filter((one) => one !== undefined));
  }

  private async import(files: File[]): Promise<void> {
    this.chooser.value = '';
    try {
      for (const file of files) for (const conversation of await readFile(file)) await this.host.store.put(conversation);
    } catch (error) {
      this.host.failed((error as Error).message);
    }
    await this.refresh();
  }
}
