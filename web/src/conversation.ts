// A conversation is a tree of messages: editing and retrying add a sibling, nothing is
// overwritten. `picks` says which child of each message is shown.

export type Role = 'user' | 'assistant' | 'tool';

export interface Attachment {
  kind: 'image' | 'audio' | 'text' | 'file';
  name: string;
  type: string; // media type
  size: number; // bytes
  data: string; // the text itself for 'text', else a data: URL
}

export interface ToolCall {
  id: string;
  name: string;
  arguments: string; // JSON as the model wrote it
}

// What is known about how an answer was made; milliseconds and tokens.
export interface Stats {
  prompt?: number;
  cached?: number;
  predicted?: number;
  reasoning?: number;
  perSecond?: number;
  promptPerSecond?: number;
  firstMs?: number;
  totalMs?: number;
  drafted?: number;
  accepted?: number;
}

export interface Message {
  id: string;
  parent: string | null;
  role: Role;
  text: string;
  time: number;
  attachments?: Attachment[];
  reasoning?: string;
  reasoningMs?: number;
  calls?: ToolCall[];
  callId?: string; // of a tool's result
  model?: string;
  finish?: string; // stop, length, tool_calls, stopped, interrupted, error
  error?: string;
  stats?: Stats;
}

export type Settings = Record<string, string | number | boolean>;

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  settings: Settings;
  messages: Record<string, Message>;
  picks: Record<string, string>; // parent's id, or '' for the first, to child's id
}

export const newId = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
};

export function newConversation(settings: Settings): Conversation {
  const now = Date.now();
  return { id: newId(), title: '', created: now, updated: now, settings: { ...settings }, messages: {}, picks: {} };
}

export function childrenOf(conversation: Conversation, parent: string | null): Message[] {
  return Object.values(conversation.messages)
    .filter((message) => message.parent === parent)
    .sort((a, b) => a.time - b.time || (a.id < b.id ? -1 : 1));
}

// The messages that are shown, first to last.
export function shownPath(conversation: Conversation): Message[] {
  const path: Message[] = [];
  let parent: string | null = null;
  for (;;) {
    const children = childrenOf(conversation, parent);
    const picked: string | undefined = conversation.picks[parent ?? ''];
    const next: Message | undefined = children.find((child) => child.id === picked) ?? children.at(-1);
    if (next === undefined) return path;
    path.push(next);
    parent = next.id;
  }
}

// The messages above one, first to last, itself last.
export function pathTo(conversation: Conversation, id: string | null): Message[] {
  const path: Message[] = [];
  for (let at = id; at !== null; ) {
    const message: Message | undefined = conversation.messages[at];
    if (message === undefined) break;
    path.unshift(message);
    at = message.parent;
  }
  return path;
}

export function add(conversation: Conversation, message: Omit<Message, 'id' | 'time'>): Message {
  const siblings = childrenOf(conversation, message.parent);
  const time = Math.max(Date.now(), (siblings.at(-1)?.time ?? 0) + 1);
  const added: Message = { ...message, id: newId(), time };
  conversation.messages[added.id] = added;
  conversation.picks[added.parent ?? ''] = added.id;
  conversation.updated = time;
  if (conversation.title === '' && added.role === 'user') conversation.title = titleOf(added);
  return added;
}

function titleOf(message: Message): string {
  const line = message.text.trim().split('\n')[0] ?? '';
  const title = line === '' ? (message.attachments?.[0]?.name ?? 'Conversation') : line;
  return title.length > 60 ? `${title.slice(0, 59).trimEnd()}…` : title;
}

// Something that claims to be a conversation (an imported file, a store's record):
// returned when it is one, with what is unknown left out.
export function asConversation(value: unknown): Conversation | undefined {
  const from = value as Partial<Conversation> | null;
  if (from === null || typeof from !== 'object') return undefined;
  if (typeof from.id !== 'string' || !/^[\w-]{1,64}$/.test(from.id)) return undefined;
  if (typeof from.messages !== 'object' || from.messages === null) return undefined;
  const messages: Record<string, Message> = {};
  for (const message of Object.values(from.messages)) {
    const good = message !== null && typeof message === 'object' && typeof message.id === 'string' &&
      typeof message.text === 'string' && ['user', 'assistant', 'tool'].includes(message.role) &&
      (message.parent === null || typeof message.parent === 'string');
    if (!good) return undefined;
    messages[message.id] = message;
  }
  const number = (n: unknown) => (typeof n === 'number' ? n : Date.now());
  return {
    id: from.id,
    title: typeof from.title === 'string' ? from.title : '',
    created: number(from.created),
    updated: number(from.updated),
    settings: typeof from.settings === 'object' && from.settings !== null ? from.settings : {},
    messages,
    picks: typeof from.picks === 'object' && from.picks !== null ? from.picks : {},
  };
}
