// One line a test: PASS or FAIL and its name; what went wrong below.
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type === 'test:pass' && data.details?.type !== 'suite') yield data.skip !== undefined ? `SKIP ${data.name}\n` : `PASS ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
    if (type === 'test:fail' && data.details?.type !== 'suite') {
      const error = data.details.error?.cause ?? data.details.error;
      yield `FAIL ${data.name}\n${String(error?.stack ?? error).split('\n').slice(0, 14).map((line) => `    ${line}`).join('\n')}\n`;
    }
    if (type === 'test:stderr' || type === 'test:stdout') yield data.message;
  }
}
