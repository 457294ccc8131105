// Conversations out of the page and into it.
import { asConversation, shownPath, type Conversation } from './conversation';
import { save } from './dom';

const fileName = (conversation: Conversation) =>
  (conversation.title || 'conversation').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 50) || 'conversation';

// What is shown, to be read by people.
export function asMarkdown(conversation: Conversation): string {
  const parts = [`# ${conversation.title || 'Conversation'}`];
  const system = String(conversation.settings.system ?? '').trim();
  if (system !== '') parts.push(`**System**\n\n${system}`);
  for (const message of shownPath(conversation)) {
    const who = { user: 'You', assistant: message.model ?? 'Model', tool: 'Tool' }[message.role];
    const files = (message.attachments ?? []).map((attachment) => `*Attached: ${attachment.name}*`);
    const thoughts = message.reasoning ? [`<details><summary>Reasoning</summary>\n\n${message.reasoning}\n\n</details>`] : [];
    const calls = (message.calls ?? []).map((call) => `Calls \`${call.name}\`:\n\n\`\`\`json\n${call.arguments}\n\`\`\``);
    parts.push([`**${who}**`, ...files, ...thoughts, message.text, ...calls].filter((part) => part !== '').join('\n\n'));
  }
  return `${parts.join('\n\n')}\n`;
}

export const saveMarkdown = (conversation: Conversation) =>
  save(`${fileName(conversation)}.md`, 'text/markdown', asMarkdown(conversation));

// Everything, every branch: what `readFile` takes back.
export const saveJson = (conversations: Conversation[]) =>
  save(conversations.length === 1 ? `${fileName(conversations[0]!)}.json` : 'conversations.json', 'application/json',
    JSON.stringify({ format: 'mlxlm-conversations', version: 1, conversations }, null, 1));

export async function readFile(file: File): Promise<Conversation[]> {
  let value: unknown;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name}: expected JSON`);
  }
  const list = (value as { conversations?: unknown }).conversations;
  const found = Array.isArray(list) ? list.map(asConversation) : [];
  if (found.length === 0 || found.some((one) => one === undefined)) throw new Error(`${file.name}: expected exported conversations`);
  return found as Conversation[];
}
