// Files that people drop, paste or choose, and the content parts they become.
import type { Attachment } from './conversation';

export const accepted = 'image/*,audio/*,text/*,.md,.json,.csv,.py,.cpp,.h,.rs,.ts,.js,.log,.yaml,.toml,.pdf';
const largest = 20 * 2 ** 20; // bytes, as the server takes
const longestSide = 2048; // pixels; larger pictures are made smaller
const largestPicture = 3 * 2 ** 20; // bytes

export interface Modalities {
  image?: boolean; // undefined: the server does not say
  audio?: boolean;
}

function readAs(file: Blob, how: 'text' | 'url'): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error('A file could not be read'));
    if (how === 'text') reader.readAsText(file);
    else reader.readAsDataURL(file);
  });
}

async function picture(file: File): Promise<{ data: string; type: string }> {
  const asItIs = { data: await readAs(file, 'url'), type: file.type };
  if (file.type === 'image/svg+xml') throw new Error(`${file.name}: drawings (SVG) are not read by models; use PNG or JPEG`);
  const bitmap = await createImageBitmap(file).catch(() => undefined);
  if (bitmap === undefined) throw new Error(`${file.name}: this is not a picture that can be read`);
  const scale = Math.min(1, longestSide / Math.max(bitmap.width, bitmap.height));
  const common = /^image\/(png|jpeg|webp|gif)$/.test(file.type);
  if (scale === 1 && common && file.size <= largestPicture) return asItIs;
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return { data: canvas.toDataURL('image/jpeg', 0.9), type: 'image/jpeg' };
}

const looksLikeText = (text: string) => !text.includes('\0') && (text.match(/\ufffd/g)?.length ?? 0) <= text.length / 1000;

// Throws an Error with one sentence when the model or the server cannot take it.
export async function attach(file: File, model: Modalities): Promise<Attachment> {
  if (file.size > largest) throw new Error(`${file.name}: larger than ${largest / 2 ** 20} MiB`);
  const base = { name: file.name || 'pasted', size: file.size };
  if (file.type.startsWith('image/')) {
    if (model.image === false) throw new Error(`${base.name}: this model takes no pictures`);
    return { ...base, kind: 'image', ...(await picture(file)) };
  }
  if (file.type.startsWith('audio/')) {
    if (model.audio === false) throw new Error(`${base.name}: this model takes no sound`);
    return { ...base, kind: 'audio', type: file.type, data: await readAs(file, 'url') };
  }
  if (file.type !== 'application/pdf') {
    const text = await readAs(file, 'text');
    if (looksLikeText(text)) return { ...base, kind: 'text', type: file.type || 'text/plain', data: text };
  }
  return { ...base, kind: 'file', type: file.type || 'application/octet-stream', data: await readAs(file, 'url') };
}

const audioFormat = (type: string) => (/mpeg|mp3/.test(type) ? 'mp3' : /wav/.test(type) ? 'wav' : (type.split('/')[1] ?? 'wav').replace(/;.*|^x-/g, ''));

// A fence longer than any in the text.
function fenced(text: string): string {
  const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map((run) => run[0].length + 1)));
  return `${fence}\n${text.replace(/\n$/, '')}\n${fence}`;
}

export type ContentPart =
  | { type: 'text'; text: string }
  | { type: 'image_url'; image_url: { url: string } }
  | { type: 'input_audio'; input_audio: { data: string; format: string } }
  | { type: 'file'; file: { filename: string; file_data: string } };

export function partOf(attachment: Attachment): ContentPart {
  const { name, type, data } = attachment;
  switch (attachment.kind) {
    case 'image':
      return { type: 'image_url', image_url: { url: data } };
    case 'audio':
      return { type: 'input_audio', input_audio: { data: data.slice(data.indexOf(',') + 1), format: audioFormat(type) } };
    case 'text':
      return { type: 'text', text: `File ${name}:\n${fenced(data)}` };
    case 'file':
      return { type: 'file', file: { filename: name, file_data: data } };
  }
}
