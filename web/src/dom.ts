// Elements without markup: text only ever becomes text nodes, so nothing that a model
// writes can become an element by accident.

export type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

function set(element: Element, props: Props): void {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') {
      element.addEventListener(name.replace(/^on/, ''), value as EventListener);
    } else if (name === 'value') {
      (element as HTMLInputElement).value = String(value);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
}

const shown = (children: Child[]) =>
  children.filter((child): child is Node | string => child instanceof Node || typeof child === 'string');

// h('button', {class: 'small', onclick: f}, 'Send')
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  set(element, props);
  element.append(...shown(children));
  return element;
}

export function svg(tag: string, props: Props = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, props);
  element.append(...shown(children));
  return element;
}

// Strokes on a grid of 24.
const icons = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  check: 'M5 13l4 4L19 7',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  retry: 'M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  close: 'M6 6l12 12M18 6L6 18',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  clip: 'M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L13 4.2a3 3 0 0 1 4.3 4.3l-7.8 7.7a1.5 1.5 0 0 1-2.1-2.1L14 7.5',
  sliders: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
  pulse: 'M3 12h4l3-7 4 14 3-7h4',
  chat: 'M4 5h16v11H9l-5 4z',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6l1.4 1.4M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10',
  save: 'M12 4v11M7 11l5 5 5-5M4 20h16',
  upload: 'M12 16V5M7 9l5-5 5 5M4 20h16',
  brain: 'M12 5a3 3 0 0 0-5.5 1.5A3 3 0 0 0 5 12a3 3 0 0 0 2 5 3 3 0 0 0 5 1zM12 5a3 3 0 0 1 5.5 1.5A3 3 0 0 1 19 12a3 3 0 0 1-2 5 3 3 0 0 1-5 1z',
  tool: 'M14 7a4 4 0 0 1 5-3.5L16.5 6l1.5 1.5L20.5 5A4 4 0 0 1 15 10.5L8 17.5a2 2 0 0 1-2.5-2.5z',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  sound: 'M5 10v4M9 7v10M13 4v16M17 8v8M21 10v4',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.5h.01',
} as const;

export type Icon = keyof typeof icons;

export function icon(name: Icon): SVGElement {
  return svg('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: icons[name] }));
}

// A button that shows only a picture: its name is for screen readers and the tooltip.
export function iconButton(name: Icon, label: string, onclick: (event: Event) => void, props: Props = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...props }, icon(name));
}

export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text);
  // Plain HTTP from another machine: no clipboard interface there.
  const area = h('textarea', { class: 'visually-hidden', value: text });
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

// A button that copies and says so for a moment.
export function copyButton(label: string, text: () => string, props: Props = {}): HTMLButtonElement {
  const button = iconButton(
    'copy',
    label,
    async () => {
      await copyText(text());
      button.replaceChildren(icon('check'));
      announce('Copied');
      setTimeout(() => button.replaceChildren(icon('copy')), 1500);
    },
    props,
  );
  return button;
}

// What screen readers are told beside what they find on the page.
const live = h('div', { class: 'visually-hidden', role: 'log', 'aria-live': 'polite', id: 'announcements' });

export function announce(text: string): void {
  if (!live.isConnected) document.body.append(live);
  while (live.childElementCount > 30) live.firstElementChild?.remove();
  live.append(h('p', {}, text));
}

export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
