// Prometheus' text format into numbers. Labels are added up, but for those a caller asks for.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (found[2] ?? '').matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)) {
      labels[name!] = value!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    }
    const value = found[3] === '+Inf' ? Infinity : found[3] === '-Inf' ? -Infinity : Number(found[3]);
    if (!Number.isNaN(value)) samples.push({ name: found[1]!, labels, value });
  }
  return samples;
}

// The sum of the first of these names that there is. Names are without their prefix
// ("mlxlm:", "mlxlm_", "llamacpp:", "vllm:").
export function sumOf(samples: Sample[], ...names: string[]): number | undefined {
  for (const name of names) {
    const found = samples.filter((sample) => sample.name.replace(/^(?:mlxlm|llamacpp|vllm)[:_]/, '') === name);
    if (found.length > 0) return found.reduce((sum, sample) => sum + sample.value, 0);
  }
  return undefined;
}
