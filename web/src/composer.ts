// The field at the bottom: text, files, send and stop.
import { accepted, attach, type Modalities } from './attachments';
import { attachmentView } from './message-view';
import type { Attachment } from './conversation';
import { announce, h, icon, iconButton } from './dom';

export class Composer {
  readonly element: HTMLElement;
  modalities: Modalities = {};
  private readonly area = h('textarea', { class: 'composer-text', rows: 1, placeholder: 'Ask anything', 'aria-label': 'Message', enterkeyhint: 'send' });
  private readonly files = h('div', { class: 'attachments', 'aria-label': 'Files to send' });
  private readonly notice = h('p', { class: 'notice', role: 'alert', hidden: true });
  private readonly chooser = h('input', { type: 'file', multiple: true, hidden: true, accept: accepted, 'aria-label': 'Files' });
  private readonly go = h('button', { type: 'submit', class: 'send' });
  private attachments: Attachment[] = [];
  private busy = false;

  constructor(
    private readonly send: (text: string, attachments: Attachment[]) => void,
    private readonly stop: () => void,
  ) {
    this.element = h(
      'form',
      { class: 'composer', 'aria-label': 'Write a message' },
      this.notice,
      this.files,
      h('div', { class: 'composer-row' }, iconButton('clip', 'Add files', () => this.chooser.click()), this.chooser, this.area, this.go),
    );
    this.running(false);
    this.listen();
  }

  private listen(): void {
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.busy) this.stop();
      else this.submit();
    });
    this.area.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      // On a phone Enter is the only way to a new line.
      if (matchMedia('(pointer: coarse)').matches && !event.ctrlKey) return;
      event.preventDefault();
      if (!this.busy) this.submit();
    });
    this.area.addEventListener('input', () => this.grow());
    this.area.addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      void this.take(files);
    });
    this.chooser.addEventListener('change', () => {
      void this.take([...(this.chooser.files ?? [])]);
      this.chooser.value = '';
    });
  }

  private grow(): void {
    this.area.style.height = 'auto';
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * 0.4)}px`;
  }

  private submit(): void {
    const text = this.area.value;
    if (text.trim() === '' && this.attachments.length === 0) return;
    const { attachments } = this;
    this.attachments = [];
    this.showFiles();
    this.say('');
    this.area.value = '';
    this.grow();
    this.send(text, attachments);
  }

  // Files from a drop, the clipboard or the chooser.
  async take(files: File[]): Promise<void> {
    const wrong: string[] = [];
    for (const file of files) {
      try {
        this.attachments.push(await attach(file, this.modalities));
        announce(`${file.name} added`);
      } catch (error) {
        wrong.push((error as Error).message);
      }
    }
    this.showFiles();
    this.say(wrong.join('. '));
    this.focus();
  }

  private showFiles(): void {
    this.files.replaceChildren(
      ...this.attachments.map((attachment) =>
        attachmentView(attachment, () => {
          this.attachments = this.attachments.filter((other) => other !== attachment);
          this.showFiles();
          this.focus();
        })),
    );
  }

  say(text: string): void {
    this.notice.hidden = text === '';
    this.notice.textContent = text;
  }

  running(busy: boolean): void {
    if (busy === this.busy && this.go.childElementCount > 0) return;
    this.busy = busy;
    const label = busy ? 'Stop' : 'Send';
    this.go.setAttribute('aria-label', label);
    this.go.title = busy ? 'Stop (Esc)' : 'Send (Enter)';
    this.go.replaceChildren(icon(busy ? 'stop' : 'send'));
    this.go.classList.toggle('busy', busy);
  }

  fill(text: string): void {
    this.area.value = text;
    this.grow();
    this.focus();
  }

  focus(): void {
    this.area.focus();
  }
}
