// Puts the page together: header, list, conversation, live view, keys.
import { getProps, listModels, useKey, type Props } from './api';
import { ChatView } from './chat-view';
import type { Conversation, Settings } from './conversation';
import { announce, h, icon, iconButton } from './dom';
import { LiveView } from './live-view';
import { askForKey, openSettings } from './settings-view';
import { Sidebar } from './sidebar';
import { local, openStore, type Store } from './store';

const narrow = matchMedia('(max-width: 800px)');

function storedDefaults(): Settings {
  try {
    return (JSON.parse(local.get('settings') ?? '{}') as Settings) ?? {};
  } catch {
    return {};
  }
}

class App {
  private readonly chat: ChatView;
  private readonly sidebar: Sidebar;
  private readonly live = new LiveView();
  private readonly title = h('h1', { class: 'title' });
  private readonly models = h('select', { class: 'models', 'aria-label': 'Model' });
  private readonly toast = h('div', { class: 'toast', role: 'alert', hidden: true });
  private readonly shade = h('div', { class: 'shade', hidden: true, onclick: () => this.list(false) });
  private readonly layout: HTMLElement;
  private readonly menu: HTMLButtonElement;
  private readonly liveLink = h('a', { class: 'icon-button', href: '#/live', 'aria-label': 'Live view', title: 'Live view' }, icon('pulse'));
  private readonly main: HTMLElement;
  private props: Props = {};

  constructor(private readonly store: Store) {
    this.chat = new ChatView({
      store,
      model: () => this.models.value,
      defaults: storedDefaults,
      listChanged: () => void this.sidebar.refresh(),
      opened: ({ id, title }) => {
        history.replaceState(null, '', `#/c/${id}`);
        this.sidebar.mark(id);
        this.renamed(title);
      },
      failed: (message) => this.say(message),
    });
    this.sidebar = new Sidebar({
      store,
      open: (id) => this.open(id),
      close: () => this.list(false),
      removed: (id) => this.removed(id),
      renamed: (id, title) => id === this.chat.conversation.id && this.renamed(title),
      latest: (id) => this.latest(id),
      failed: (message) => this.say(message),
    });
    this.menu = iconButton('menu', 'Conversations', () => this.list(this.layout.classList.contains('closed')), { 'aria-controls': 'sidebar' });
    const theme = iconButton('moon', 'Dark or light', () => this.turnTheme(theme));
    this.showTheme(theme);
    this.main = h('main', { id: 'main' },
      h('header', { class: 'bar' }, this.menu, iconButton('plus', 'New conversation', () => this.open(undefined), { class: 'icon-button only-narrow' }), this.title, this.models, this.liveLink,
        iconButton('sliders', 'Settings', () => this.settings()), theme));
    this.layout = h('div', { class: 'layout' }, this.sidebar.element, this.shade, this.main);
    document.body.append(h('a', { class: 'skip', href: '#main', onclick: (event: Event) => { event.preventDefault(); this.chat.composer.focus(); } }, 'To the message field'), this.layout, this.toast);
    announce('');
    this.list(!narrow.matches);
    narrow.addEventListener('change', () => this.list(!narrow.matches));
    addEventListener('hashchange', () => void this.route());
    this.keys();
    this.models.addEventListener('change', () => void this.modelChanged());
  }

  async start(): Promise<void> {
    await Promise.all([this.route(), this.sidebar.refresh(), this.findModels()]);
  }

  private say(message: string): void {
    this.toast.textContent = message;
    this.toast.hidden = false;
    setTimeout(() => (this.toast.hidden = true), 6000);
  }

  // ------------------------------------------------------------- what is shown

  private open(id: string | undefined): void {
    const hash = id === undefined ? '#/' : `#/c/${id}`;
    if (location.hash === hash || (id === undefined && location.hash === '')) void this.route();
    else location.hash = hash;
  }

  private async route(): Promise<void> {
    const live = location.hash === '#/live';
    if (live) this.live.start();
    else this.live.stop();
    const shown = live ? this.live.element : this.chat.element;
    if (!this.main.contains(shown)) {
      (live ? this.chat : this.live).element.remove();
      this.main.append(shown);
    }
    this.showLink(live);
    if (narrow.matches) this.list(false);
    if (live) {
      this.sidebar.mark('');
      this.renamed('Live');
      return;
    }
    const id = /^#\/c\/([\w-]+)$/.exec(location.hash)?.[1];
    const conversation = id === undefined ? undefined : await this.latest(id);
    this.chat.show(conversation);
    this.sidebar.mark(this.chat.conversation.id);
    this.renamed(this.chat.conversation.title);
    if (!matchMedia('(pointer: coarse)').matches) this.chat.composer.focus();
  }

  private showLink(live: boolean): void {
    const label = live ? 'Back to the conversation' : 'Live view';
    this.liveLink.replaceChildren(icon(live ? 'chat' : 'pulse'));
    this.liveLink.setAttribute('aria-label', label);
    this.liveLink.title = label;
    const { id, messages } = this.chat.conversation;
    this.liveLink.setAttribute('href', !live ? '#/live' : Object.keys(messages).length > 0 ? `#/c/${id}` : '#/');
  }

  // What is shown or being answered is newer than what is kept.
  private async latest(id: string): Promise<Conversation | undefined> {
    const alive = this.chat.alive(id);
    if (alive !== undefined) return alive;
    return this.chat.conversation.id === id ? this.chat.conversation : this.store.get(id);
  }

  private removed(id: string): void {
    this.chat.stop(id);
    if (id === this.chat.conversation.id) this.open(undefined);
  }

  private renamed(title: string): void {
    this.title.textContent = title || 'New conversation';
    document.title = title ? `${title} · mlxlm` : 'mlxlm';
  }

  // Shows or hides the list of conversations.
  private list(open: boolean): void {
    const had = this.sidebar.element.contains(document.activeElement);
    this.layout.classList.toggle('closed', !open);
    this.sidebar.element.inert = !open;
    this.shade.hidden = !open || !narrow.matches;
    this.main.inert = open && narrow.matches;
    this.menu.setAttribute('aria-expanded', String(open));
    if (open && narrow.matches) this.sidebar.search.focus();
    else if (had) this.menu.focus();
  }

  // ------------------------------------------------------------- model and settings

  private async findModels(): Promise<void> {
    const models = await listModels();
    this.models.replaceChildren(...models.map(({ id }) => h('option', { value: id }, id.split('/').pop() ?? id)));
    this.models.hidden = models.length === 0;
    const before = local.get('model');
    if (models.some(({ id }) => id === before)) this.models.value = before!;
    await this.modelChanged();
  }

  private async modelChanged(): Promise<void> {
    if (this.models.value !== '') local.set('model', this.models.value);
    this.models.title = this.models.value;
    this.props = await getProps(this.models.value);
    const can = this.props.capabilities ?? this.props.modalities;
    this.chat.composer.modalities = { image: can?.vision, audio: can?.audio };
  }

  private settings(): void {
    const { conversation } = this.chat;
    openSettings({
      settings: conversation.settings,
      serverDefaults: this.props.default_generation_settings ?? {},
      changed: () => Object.keys(conversation.messages).length > 0 && this.chat.keep(conversation),
      asDefaults: (settings) => local.set('settings', JSON.stringify(settings)),
    });
  }

  // ------------------------------------------------------------- theme and keys

  private get dark(): boolean {
    const chosen = document.documentElement.dataset.theme;
    return chosen !== undefined ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  }

  private turnTheme(button: HTMLButtonElement): void {
    const theme = this.dark ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    local.set('theme', theme);
    this.showTheme(button);
  }

  private showTheme(button: HTMLButtonElement): void {
    const label = this.dark ? 'Light theme' : 'Dark theme';
    button.replaceChildren(icon(this.dark ? 'sun' : 'moon'));
    button.setAttribute('aria-label', label);
    button.title = label;
  }

  private keys(): void {
    addEventListener('keydown', (event) => {
      const typing = (event.target as HTMLElement).matches?.('input, textarea, select');
      const command = event.ctrlKey || event.metaKey;
      if (event.key === 'Escape' && document.querySelector('dialog[open]') === null) {
        if (narrow.matches && !this.layout.classList.contains('closed')) this.list(false);
        else this.chat.stop();
      } else if (command && event.shiftKey && event.key.toLowerCase() === 'o') {
        event.preventDefault();
        this.open(undefined);
      } else if (command && event.key === 'k') {
        event.preventDefault();
        this.list(true);
        this.sidebar.search.focus();
      } else if (event.key === '/' && !typing) {
        event.preventDefault();
        this.chat.composer.focus();
      }
    });
  }
}

useKey(sessionStorage.getItem('mlxlm.key') ?? local.get('key') ?? '', async () => {
  const key = await askForKey((kept) => local.set('key', kept));
  if (key !== undefined) sessionStorage.setItem('mlxlm.key', key);
  return key;
});
void openStore().then((store) => new App(store).start());
