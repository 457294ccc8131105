// Every setting of a conversation, declared once: the form, the request and what is
// checked follow from this table. What is not set is left to the server.
import type { Settings } from './conversation';

export interface Field {
  key: string;
  label: string;
  group: 'Answer' | 'Sampling' | 'Penalties' | 'Reasoning' | 'Tools and format';
  kind: 'text' | 'number' | 'integer' | 'choice' | 'json' | 'lines';
  help: string;
  min?: number;
  max?: number;
  step?: number;
  choices?: [value: string, label: string][];
}

export const fields: Field[] = [
  { key: 'system', label: 'System prompt', group: 'Answer', kind: 'text', help: 'What the model is told before the conversation.' },
  { key: 'max_tokens', label: 'Longest answer', group: 'Answer', kind: 'integer', min: 1, help: 'In tokens.' },
  { key: 'stop', label: 'Stop texts', group: 'Answer', kind: 'lines', help: 'One a line; the answer ends before any of them.' },
  { key: 'temperature', label: 'Temperature', group: 'Sampling', kind: 'number', min: 0, max: 2, step: 0.05, help: '0 always takes the likeliest token.' },
  { key: 'top_p', label: 'Top p', group: 'Sampling', kind: 'number', min: 0, max: 1, step: 0.01, help: 'Only the likeliest tokens that together reach this probability.' },
  { key: 'top_k', label: 'Top k', group: 'Sampling', kind: 'integer', min: 0, help: 'Only this many of the likeliest tokens; 0 for all.' },
  { key: 'min_p', label: 'Min p', group: 'Sampling', kind: 'number', min: 0, max: 1, step: 0.01, help: 'No token less likely than this share of the likeliest.' },
  { key: 'xtc_probability', label: 'XTC probability', group: 'Sampling', kind: 'number', min: 0, max: 1, step: 0.05, help: 'How often the obvious choices are left out.' },
  { key: 'xtc_threshold', label: 'XTC threshold', group: 'Sampling', kind: 'number', min: 0, max: 0.5, step: 0.05, help: 'What counts as obvious.' },
  { key: 'seed', label: 'Seed', group: 'Sampling', kind: 'integer', min: 0, help: 'The same seed gives the same answer again.' },
  { key: 'repetition_penalty', label: 'Repetition', group: 'Penalties', kind: 'number', min: 0, max: 2, step: 0.05, help: 'Above 1 makes repeated tokens less likely.' },
  { key: 'presence_penalty', label: 'Presence', group: 'Penalties', kind: 'number', min: -2, max: 2, step: 0.1, help: 'Taken off for tokens that have appeared.' },
  { key: 'frequency_penalty', label: 'Frequency', group: 'Penalties', kind: 'number', min: -2, max: 2, step: 0.1, help: 'Taken off for every time a token has appeared.' },
  { key: 'thinking', label: 'Thinking', group: 'Reasoning', kind: 'choice', choices: [['', 'Its own way'], ['on', 'On'], ['off', 'Off']], help: 'For models that can do either.' },
  { key: 'reasoning_effort', label: 'Effort', group: 'Reasoning', kind: 'choice', choices: [['', 'Its own way'], ['low', 'Low'], ['medium', 'Medium'], ['high', 'High']], help: 'For models that know efforts.' },
  { key: 'tools', label: 'Tools', group: 'Tools and format', kind: 'json', help: 'A JSON list of functions. The page shows the calls, and you type in the results.' },
  { key: 'response_format', label: 'Answer format', group: 'Tools and format', kind: 'json', help: 'For example {"type": "json_object"}, or a JSON schema.' },
];

// What is wrong with a value, in words, or undefined.
export function problem(field: Field, value: string): string | undefined {
  if (value.trim() === '') return undefined;
  if (field.kind === 'number' || field.kind === 'integer') {
    const number = Number(value);
    if (!Number.isFinite(number)) return 'expected a number';
    if (field.kind === 'integer' && !Number.isSafeInteger(number)) return 'expected a whole number';
    if (field.min !== undefined && number < field.min) return `at least ${field.min}`;
    if (field.max !== undefined && number > field.max) return `at most ${field.max}`;
  }
  if (field.kind === 'json') {
    try {
      const parsed: unknown = JSON.parse(value);
      if (field.key === 'tools' && !Array.isArray(parsed)) return 'expected a JSON list';
    } catch (error) {
      return (error as Error).message;
    }
  }
  return undefined;
}

// The fields of a request body. System prompt and thinking have places of their own.
export function requestFields(settings: Settings): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const field of fields) {
    const value = String(settings[field.key] ?? '');
    if (value.trim() === '' || field.key === 'system' || problem(field, value) !== undefined) continue;
    if (field.key === 'thinking') body.chat_template_kwargs = { enable_thinking: value === 'on' };
    else if (field.kind === 'number' || field.kind === 'integer') body[field.key] = Number(value);
    else if (field.kind === 'json') body[field.key] = JSON.parse(value);
    else if (field.kind === 'lines') body[field.key] = value.split('\n').filter((line) => line !== '');
    else body[field.key] = value;
  }
  return body;
}
