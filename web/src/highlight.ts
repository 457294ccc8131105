// Colours for code, by what nearly all languages share: comments, strings, numbers,
// words that mean something, names that are called.
import { h } from './dom';

type Kind = 'comment' | 'string' | 'number' | 'word' | 'call';

const words = new Set(
  (
    'abstract alignas and as assert async auto await bool boolean break case catch char class const constexpr continue ' +
    'def default defer del delete do double elif else end enum except export extends extern false False final finally ' +
    'float fn for foreach from func function go goto if impl implements import in include inline instanceof int ' +
    'interface is lambda let long loop match mod module mut namespace new nil None nonlocal not null nullptr operator or ' +
    'override package pass private protected pub public raise ref return select self short signed sizeof static string ' +
    'struct super switch template then this throw throws trait true True try type typedef typename typeof undefined ' +
    'union unsafe unsigned use using var virtual void volatile where while with yield ' +
    'SELECT FROM WHERE INSERT INTO UPDATE DELETE CREATE TABLE JOIN LEFT INNER ON GROUP BY ORDER LIMIT AND OR NOT NULL AS ' +
    'echo fi done esac local'
  ).split(' '),
);

const hashComments = /^(py|python|sh|bash|zsh|shell|console|rb|ruby|yaml|yml|toml|ini|r|perl|make|makefile|dockerfile|cmake|nix|elixir)$/i;
const dashComments = /^(sql|lua|haskell|hs|ada|elm)$/i;
const plain = /^(|text|txt|plain|plaintext|output|log|diff|markdown|md)$/i;

const string = String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'|` + '`(?:\\\\.|[^`\\\\])*`?';
const number = String.raw`\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)[a-zA-Z]{0,3}\b`;
const name = String.raw`[A-Za-z_]\w*`;

function grammar(language: string): RegExp {
  let comment = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
  if (hashComments.test(language)) comment = String.raw`#[^\n]*`;
  else if (dashComments.test(language)) comment = String.raw`--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
  else if (/^(html|xml|svg|vue)$/i.test(language)) comment = String.raw`<!--[\s\S]*?(?:-->|$)`;
  return new RegExp(`(${comment})|(${string})|(${number})|(${name})(?=(\\s*\\()?)`, 'g');
}

// Beyond this the colours cost more than they tell.
const longest = 60_000; // characters

export function highlight(code: string, language: string): (Node | string)[] {
  if (plain.test(language) || code.length > longest) return [code];
  const out: (Node | string)[] = [];
  let from = 0;
  for (const found of code.matchAll(grammar(language))) {
    const [text, comment, quoted, digits, word, called] = found;
    let kind: Kind | undefined;
    if (comment !== undefined) kind = 'comment';
    else if (quoted !== undefined) kind = 'string';
    else if (digits !== undefined) kind = 'number';
    else if (word !== undefined && words.has(word)) kind = 'word';
    else if (called !== undefined) kind = 'call';
    if (kind === undefined) continue;
    out.push(code.slice(from, found.index), h('span', { class: `code-${kind}` }, text));
    from = found.index + text.length;
  }
  out.push(code.slice(from));
  return out;
}
