// TeX into MathML, which every current browser shows by itself. The translator is
// fetched from this server when the first formula appears.
import { h } from './dom';

type Temml = (typeof import('temml'))['default'];
let temml: Temml | undefined;
let loading: Promise<void> | undefined;

function show(element: HTMLElement, tex: string, display: boolean): void {
  try {
    temml!.render(tex, element, { displayMode: display, throwOnError: true, trust: false, strict: false, maxExpand: 500, maxSize: [30, 100] });
    element.classList.add('done');
  } catch {
    element.replaceChildren(h('code', {}, tex));
  }
}

export function mathElement(tex: string, display: boolean): HTMLElement {
  const element = h('span', { class: display ? 'math display' : 'math' }, tex);
  if (temml !== undefined) {
    show(element, tex, display);
    return element;
  }
  loading ??= import('temml').then(
    (module) => void (temml = module.default),
    () => void (loading = undefined),
  );
  void loading.then(() => temml && show(element, tex, display));
  return element;
}
