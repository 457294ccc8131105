// Markdown of a model into elements. marked only splits the text into tokens; every
// element is made here, from a closed list: HTML stays text, pictures are never
// loaded, links lead only to http, https and mail addresses.
import { Lexer, Marked, type Token, type Tokens } from 'marked';
import { copyButton, h } from './dom';
import { highlight } from './highlight';
import { mathElement } from './math';

interface MathToken extends Tokens.Generic {
  type: 'math';
  text: string;
  display: boolean;
}

const math = (raw: string, text: string, display: boolean): MathToken => ({ type: 'math', raw, text: text.trim(), display });

// $x$ only where prices do not stand: no space inside the dollars, no digit after.
const inlineMath = /^\$(?!\s)((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)|^\\\(([\s\S]+?)\\\)/;
const displayMath = /^\$\$([\s\S]+?)\$\$|^\\\[([\s\S]+?)\\\]/;

const marked = new Marked({
  gfm: true,
  extensions: [
    {
      name: 'mathBlock',
      level: 'block',
      start: (text: string) => text.match(/^ {0,3}(?:\$\$|\\\[)/m)?.index,
      tokenizer(text: string) {
        const found = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/.exec(text);
        return found ? math(found[0], found[1] ?? found[2] ?? '', true) : undefined;
      },
    },
    {
      name: 'mathInline',
      level: 'inline',
      start: (text: string) => text.match(/\$|\\\(|\\\[/)?.index,
      tokenizer(text: string) {
        const display = displayMath.exec(text);
        if (display) return math(display[0], display[1] ?? display[2] ?? '', true);
        const inline = inlineMath.exec(text);
        return inline ? math(inline[0], inline[1] ?? inline[2] ?? '', false) : undefined;
      },
    },
  ],
});

const named: Record<string, string> = {
  amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0', ndash: '–', mdash: '—', hellip: '…',
  times: '×', deg: '°', copy: '©', rarr: '→', larr: '←', le: '≤', ge: '≥', ne: '≠', middot: '·', bull: '•', euro: '€',
};

function unescape(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,8}));/gi, (all, decimal, hex, name) => {
    if (name !== undefined) return named[name] ?? all;
    const code = decimal !== undefined ? Number(decimal) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : all;
  });
}

// The address of a link, when it is one that may be followed.
export function safeLink(address: string): string | undefined {
  try {
    const url = new URL(unescape(address).trim());
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function link(address: string, ...content: Node[]): HTMLElement {
  const href = safeLink(address);
  if (href === undefined) return h('span', {}, ...content);
  return h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...content);
}

// A picture that the text names is a link to it: loading it would tell somebody.
function picture(token: Tokens.Image): Node {
  const label = document.createTextNode(`[picture: ${unescape(token.text) || 'no description'}]`);
  return link(token.href, label);
}

function codeBlock(token: Tokens.Code): HTMLElement {
  const language = (token.lang ?? '').trim().split(/\s+/)[0] ?? '';
  const code = h('code', {}, ...highlight(token.text, language));
  return h(
    'div',
    { class: 'code-block' },
    h('div', { class: 'code-head' }, h('span', {}, language || 'text'), copyButton('Copy code', () => token.text)),
    h('pre', { tabindex: '0', role: 'region', 'aria-label': `Code, ${language || 'plain text'}` }, code),
  );
}

function list(token: Tokens.List): HTMLElement {
  const items = token.items.map((item) => {
    // marked puts a checkbox of its own among the tokens of a task.
    const content = item.tokens.filter((child) => child.type !== 'checkbox');
    const box = item.task && h('input', { type: 'checkbox', disabled: true, checked: item.checked === true, 'aria-label': 'Task' });
    return h('li', { class: item.task ? 'task' : undefined }, box, ...blocks(content));
  });
  if (!token.ordered) return h('ul', {}, ...items);
  return h('ol', { start: token.start === 1 || token.start === '' ? undefined : token.start }, ...items);
}

function table(token: Tokens.Table): HTMLElement {
  const row = (cells: Tokens.TableCell[], tag: 'th' | 'td') =>
    h('tr', {}, ...cells.map((cell) =>
      h(tag, { class: cell.align ? `align-${cell.align}` : undefined, scope: tag === 'th' ? 'col' : undefined }, ...inlines(cell.tokens))));
  return h(
    'div',
    { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': 'Table' },
    h('table', {}, h('thead', {}, row(token.header, 'th')), h('tbody', {}, ...token.rows.map((cells) => row(cells, 'td')))),
  );
}

function block(token: Token): Node[] {
  switch (token.type) {
    case 'space':
    case 'def':
      return [];
    case 'heading': {
      // The page's own headings end at the second level.
      const level = Math.min(6, (token as Tokens.Heading).depth + 2) as 3 | 4 | 5 | 6;
      return [h(`h${level}`, { class: `depth-${(token as Tokens.Heading).depth}` }, ...inlines(token.tokens))];
    }
    case 'paragraph':
      return [h('p', {}, ...inlines(token.tokens))];
    case 'code':
      return [codeBlock(token as Tokens.Code)];
    case 'blockquote':
      return [h('blockquote', {}, ...blocks(token.tokens ?? []))];
    case 'list':
      return [list(token as Tokens.List)];
    case 'table':
      return [table(token as Tokens.Table)];
    case 'hr':
      return [h('hr')];
    case 'html':
      return [h('p', {}, token.raw.trim())];
    default:
      return inline(token);
  }
}

function inline(token: Token): Node[] {
  switch (token.type) {
    case 'text':
      return token.tokens ? inlines(token.tokens) : [document.createTextNode(unescape((token as Tokens.Text).text))];
    case 'escape':
      return [document.createTextNode((token as Tokens.Escape).text)];
    case 'strong':
    case 'em':
    case 'del':
      return [h(token.type, {}, ...inlines(token.tokens))];
    case 'codespan':
      return [h('code', {}, (token as Tokens.Codespan).text)];
    case 'br':
      return [h('br')];
    case 'link':
      return [link((token as Tokens.Link).href, ...inlines(token.tokens))];
    case 'image':
      return [picture(token as Tokens.Image)];
    case 'math':
      return [mathElement((token as MathToken).text, (token as MathToken).display)];
    case 'html':
      return [/^<br\s*\/?>$/i.test(token.raw) ? h('br') : document.createTextNode(token.raw)];
    default:
      return [document.createTextNode(token.raw)];
  }
}

const inlines = (tokens: Token[] | undefined): Node[] => (tokens ?? []).flatMap(inline);
const blocks = (tokens: Token[]): Node[] => tokens.flatMap(block);

function tokensOf(text: string): Token[] {
  try {
    return new Lexer(marked.defaults).lex(text);
  } catch {
    // Whatever a tokenizer cannot take is shown as it stands.
    return [{ type: 'paragraph', raw: text, text, tokens: [{ type: 'text', raw: text, text }] } as Tokens.Paragraph];
  }
}

// An element that shows growing text: what came before and did not change stays, so
// selections and scrolled code survive, and only the end is made again.
export class MarkdownView {
  readonly element = h('div', { class: 'markdown' });
  private shown: { raw: string; nodes: Node[] }[] = [];

  update(text: string): void {
    const tokens = tokensOf(text);
    let same = 0;
    while (same < tokens.length && same < this.shown.length && tokens[same]!.raw === this.shown[same]!.raw) same++;
    for (const { nodes } of this.shown.splice(same)) for (const node of nodes) (node as ChildNode).remove();
    for (const token of tokens.slice(same)) {
      const nodes = block(token);
      this.element.append(...nodes);
      this.shown.push({ raw: token.raw, nodes });
    }
  }
}
