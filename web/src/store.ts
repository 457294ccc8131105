// Where conversations are kept: in the server's database when it offers one, else in
// this browser. Both stand behind one interface.
import { asConversation, type Conversation } from './conversation';
import { request } from './api';

export interface Entry {
  id: string;
  title: string;
  updated: number;
}

export interface Store {
  readonly where: string; // for people: "on this server"
  readonly keepEvery: number; // ms between puts of a growing answer
  list(): Promise<Entry[]>; // latest first
  get(id: string): Promise<Conversation | undefined>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

const entryOf = ({ id, title, updated }: Conversation): Entry => ({ id, title, updated });
const latestFirst = (entries: Entry[]) => entries.sort((a, b) => b.updated - a.updated);

const settled = <T>(request: IDBRequest<T>) =>
  new Promise<T>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

class BrowserStore implements Store {
  readonly where = 'in this browser';
  readonly keepEvery = 1000;
  constructor(private readonly database: IDBDatabase) {}

  static async open(): Promise<BrowserStore> {
    const opening = indexedDB.open('mlxlm', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('conversations', { keyPath: 'id' });
    return new BrowserStore(await settled(opening));
  }

  private at(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction('conversations', mode).objectStore('conversations');
  }

  async list(): Promise<Entry[]> {
    const all: Conversation[] = await settled(this.at('readonly').getAll());
    return latestFirst(all.map(entryOf));
  }

  async get(id: string): Promise<Conversation | undefined> {
    return asConversation(await settled(this.at('readonly').get(id)));
  }

  async put(conversation: Conversation): Promise<void> {
    await settled(this.at('readwrite').put(structuredClone(conversation)));
  }

  async remove(id: string): Promise<void> {
    await settled(this.at('readwrite').delete(id));
  }
}

class ServerStore implements Store {
  readonly where = 'on this server';
  readonly keepEvery = 5000;
  private static readonly route = 'conversations';

  // Whether this server keeps conversations.
  static async offered(): Promise<boolean> {
    const response = await request(ServerStore.route).catch(() => undefined);
    return response?.ok === true && (response.headers.get('content-type') ?? '').includes('json');
  }

  async list(): Promise<Entry[]> {
    const response = await request(ServerStore.route);
    if (!response.ok) throw new Error(`conversations: the server answered ${response.status}`);
    const { data } = (await response.json()) as { data: Entry[] };
    return latestFirst(data);
  }

  async get(id: string): Promise<Conversation | undefined> {
    const response = await request(`${ServerStore.route}/${id}`);
    return response.ok ? asConversation(await response.json()) : undefined;
  }

  async put(conversation: Conversation): Promise<void> {
    const body = JSON.stringify(conversation);
    const headers = { 'content-type': 'application/json' };
    const response = await request(`${ServerStore.route}/${conversation.id}`, { method: 'PUT', headers, body });
    if (!response.ok) throw new Error(`conversation not kept: the server answered ${response.status}`);
  }

  async remove(id: string): Promise<void> {
    // The type is what the server asks of anything that changes it.
    await request(`${ServerStore.route}/${id}`, { method: 'DELETE', headers: { 'content-type': 'application/json' } });
  }
}

// For a browser that keeps nothing (private windows of some): gone with the page.
class MemoryStore implements Store {
  readonly where = 'in this page only, until it is closed';
  readonly keepEvery = 10_000;
  private readonly kept = new Map<string, Conversation>();

  async list(): Promise<Entry[]> {
    return latestFirst([...this.kept.values()].map(entryOf));
  }
  async get(id: string): Promise<Conversation | undefined> {
    return this.kept.get(id);
  }
  async put(conversation: Conversation): Promise<void> {
    this.kept.set(conversation.id, conversation);
  }
  async remove(id: string): Promise<void> {
    this.kept.delete(id);
  }
}

export async function openStore(): Promise<Store> {
  if (await ServerStore.offered()) return new ServerStore();
  return BrowserStore.open().catch(() => new MemoryStore());
}

// Small things of this browser alone: theme, key, settings for new conversations.
export const local = {
  get(name: string): string | null {
    try {
      return localStorage.getItem(`mlxlm.${name}`);
    } catch {
      return null;
    }
  },
  set(name: string, value: string | null): void {
    try {
      if (value === null) localStorage.removeItem(`mlxlm.${name}`);
      else localStorage.setItem(`mlxlm.${name}`, value);
    } catch {
      // Nothing is kept then.
    }
  },
};
