// The form of the settings table, for one conversation or for new ones.
import type { Settings } from './conversation';
import { h, iconButton } from './dom';
import { fields, problem, type Field } from './settings';

export interface SettingsHost {
  settings: Settings;
  serverDefaults: Record<string, unknown>; // shown where nothing is set
  changed(settings: Settings): void;
  asDefaults(settings: Settings): void;
}

function control(field: Field, host: SettingsHost): HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement {
  const value = String(host.settings[field.key] ?? '');
  const props = { id: `set-${field.key}`, 'aria-describedby': `help-${field.key}` };
  if (field.kind === 'choice') {
    const select = h('select', props, ...field.choices!.map(([choice, label]) => h('option', { value: choice }, label)));
    select.value = value;
    return select;
  }
  if (field.kind === 'number' || field.kind === 'integer') {
    const known = host.serverDefaults[field.key];
    const placeholder = typeof known === 'number' ? String(Math.round(known * 1000) / 1000) : 'default';
    const { min, max, step } = field;
    return h('input', { ...props, type: 'number', inputmode: 'decimal', value, min, max, step: step ?? 1, placeholder });
  }
  const rows = field.kind === 'lines' ? 2 : 4;
  return h('textarea', { ...props, rows, value, spellcheck: String(field.kind === 'text'), class: field.kind === 'json' ? 'code' : undefined });
}

const keys: [string, string][] = [
  ['Enter', 'send'], ['Shift Enter', 'new line'], ['Esc', 'stop'], ['/', 'to the message field'],
  ['Ctrl K', 'search'], ['Ctrl Shift O', 'new conversation'],
];

const keyList = () =>
  h('fieldset', { class: 'keys' }, h('legend', {}, 'Keys'),
    h('dl', {}, ...keys.map(([key, what]) => h('div', {}, h('dt', {}, ...key.split(' ').map((one) => h('kbd', {}, one))), h('dd', {}, what)))));

function line(field: Field, host: SettingsHost): HTMLElement {
  const input = control(field, host);
  const help = h('small', { id: `help-${field.key}` }, field.help);
  input.addEventListener('input', () => {
    const wrong = problem(field, input.value) ?? (input instanceof HTMLInputElement && input.validity.badInput ? 'expected a number' : undefined);
    help.textContent = wrong ?? field.help;
    help.classList.toggle('error', wrong !== undefined);
    input.setAttribute('aria-invalid', String(wrong !== undefined));
    if (wrong !== undefined) return;
    if (input.value.trim() === '') delete host.settings[field.key];
    else host.settings[field.key] = input.value;
    host.changed(host.settings);
  });
  const wide = ['text', 'json', 'lines'].includes(field.kind);
  return h('div', { class: wide ? 'field wide' : 'field' }, h('label', { for: input.id }, field.label), input, help);
}

export function openSettings(host: SettingsHost): void {
  const dialog = h('dialog', { class: 'drawer', 'aria-labelledby': 'settings-title' });
  const body = h('div', { class: 'drawer-body' });
  const fill = () => {
    const groups = [...new Set(fields.map((field) => field.group))];
    body.replaceChildren(
      ...groups.map((group) =>
        h('fieldset', {}, h('legend', {}, group), h('div', { class: 'fields' }, ...fields.filter((field) => field.group === group).map((field) => line(field, host))))),
      keyList(),
    );
  };
  const reset = () => {
    for (const key of Object.keys(host.settings)) delete host.settings[key];
    host.changed(host.settings);
    fill();
  };
  const keepButton = h('button', { type: 'button', class: 'primary' }, 'Use for new ones too');
  keepButton.addEventListener('click', () => {
    host.asDefaults({ ...host.settings });
    keepButton.textContent = 'Kept';
    setTimeout(() => (keepButton.textContent = 'Use for new ones too'), 1500);
  });
  fill();
  dialog.append(
    h('header', {}, h('h2', { id: 'settings-title' }, 'This conversation'), iconButton('close', 'Close settings', () => dialog.close())),
    body,
    h('footer', {}, h('button', { type: 'button', class: 'plain', onclick: reset }, 'Reset'), keepButton),
  );
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

// Asks for an API key; nothing when the user does not give one.
export function askForKey(keep: (key: string) => void): Promise<string | undefined> {
  return new Promise((resolve) => {
    const field = h('input', { type: 'password', autocomplete: 'off', 'aria-label': 'API key' });
    const remember = h('input', { type: 'checkbox' });
    const dialog = h('dialog', { class: 'small', 'aria-label': 'API key' });
    let given: string | undefined;
    const submit = (event: Event) => {
      event.preventDefault();
      given = field.value.trim() || undefined;
      if (given !== undefined && remember.checked) keep(given);
      dialog.close();
    };
    dialog.append(
      h('form', { onsubmit: submit },
        h('label', {}, h('span', {}, 'This server asks for an API key'), field),
        h('label', { class: 'check' }, remember, 'Remember it in this browser'),
        h('div', { class: 'row' }, h('button', { type: 'button', class: 'plain', onclick: () => dialog.close() }, 'Cancel'), h('button', { type: 'submit', class: 'primary' }, 'Use'))),
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
