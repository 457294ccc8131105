// A line chart over the last minutes. Lines differ by colour and by dash.
import { h, svg } from './dom';

export interface Series {
  label: string;
  unit: (value: number) => string;
  binary?: boolean; // counted in powers of two
}

const width = 320, height = 120; // of the drawing's own grid

function niceTop(value: number, binary: boolean): number {
  if (!(value > 0)) return 1;
  if (binary) {
    const power = 2 ** Math.floor(Math.log2(value));
    return [1, 1.5, 2].map((step) => step * power).find((step) => step >= value)!;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value)!;
}

export class Chart {
  readonly element: HTMLElement;
  private readonly plot = svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', class: 'plot', 'aria-hidden': 'true' });
  private readonly values: HTMLElement[];
  private readonly top = h('span', { class: 'chart-top' });
  private readonly from = h('span');
  private readonly points: (number | undefined)[][];

  // At most `length` points, one a second, are shown; `ceiling` fixes the top where there is one.
  constructor(
    readonly title: string,
    private readonly series: Series[],
    private readonly length: number,
    private readonly ceiling?: () => number | undefined,
  ) {
    this.points = series.map(() => []);
    this.values = series.map(() => h('dd', {}, '–'));
    const legend = h('dl', {}, ...series.flatMap(({ label }, index) => [
      h('div', {}, h('dt', {}, svg('svg', { class: `key line-${index}`, viewBox: '0 0 20 6', 'aria-hidden': 'true' }, svg('path', { d: 'M0 3H20' })), label), this.values[index]),
    ]));
    this.element = h('section', { class: 'chart', 'aria-label': title }, h('h3', {}, title), legend, h('div', { class: 'plot-frame' }, this.top, this.plot),
      h('div', { class: 'chart-time', 'aria-hidden': 'true' }, this.from, h('span', {}, 'now')));
  }

  add(values: (number | undefined)[]): void {
    values.forEach((value, index) => {
      const points = this.points[index]!;
      points.push(value);
      if (points.length > this.length) points.shift();
      this.values[index]!.textContent = value === undefined ? '–' : this.series[index]!.unit(value);
    });
    this.draw();
  }

  private draw(): void {
    const known = this.points.flat().filter((value): value is number => value !== undefined);
    const top = this.ceiling?.() ?? niceTop(Math.max(0, ...known), this.series[0]!.binary === true);
    this.top.textContent = known.length > 0 ? this.series[0]!.unit(top) : '';
    // A minute at first, so that there is something to see.
    const span = Math.max(Math.min(60, this.length), ...this.points.map((points) => points.length));
    this.from.textContent = `${span} s ago`;
    const x = (index: number, count: number) => ((span - count + index) / (span - 1)) * width;
    const y = (value: number) => height - 2 - (Math.min(value, top) / top) * (height - 6);
    const grid = [0.25, 0.5, 0.75].map((part) => svg('path', { class: 'grid', d: `M0 ${height * part}H${width}` }));
    const lines = this.points.flatMap((points, index) => {
      let path = '';
      let pen = 'M';
      points.forEach((value, at) => {
        if (value === undefined) pen = 'M';
        else {
          path += `${pen}${x(at, points.length).toFixed(1)} ${y(value).toFixed(1)}`;
          pen = 'L';
        }
      });
      const first = x(0, points.length).toFixed(1);
      const area = index === 0 && points.length > 1 && !points.includes(undefined) ? [svg('path', { class: 'area', d: `${path}V${height}H${first}Z` })] : [];
      return [...area, svg('path', { class: `line line-${index}`, d: path || 'M0 0' })];
    });
    this.plot.replaceChildren(...grid, ...lines);
  }
}
