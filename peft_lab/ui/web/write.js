// The editor of the page Write it: CodeMirror, what the learner types on its way to the server, and the line that raised.

const SEND_AFTER = 400; // ms after the last key
const LONGEST = %LONGEST%; // characters of a program
const NARROW = 900; // CSS pixels under which the page's columns stand one under the other
const AGAIN_AFTER = 4000; // ms in which the server should have stored a text
const LEAVES_FOR = 10000; // ms after Escape in which Tab leaves the editor

/** The editor of one page; `cm` is CodeMirror, of which tools/codemirror/entry.js says what it holds. */
class Editor {
  constructor(host, cm) {
    const { EditorState, EditorView, StateEffect, StateField, Decoration, HighlightStyle, tags } = cm;
    this.host = host;
    this.cm = cm;
    this.count = 0;
    this.raised = StateEffect.define();
    const line = Decoration.line({ class: "raised" });
    const marks = StateField.define({
      create: () => Decoration.none,
      update: (value, { state, changes, effects }) => {
        const last = effects.filter((effect) => effect.is(this.raised)).at(-1);
        if (!last) return value.map(changes);
        const at = last.value;
        return at > 0 && at <= state.doc.lines ? Decoration.set([line.range(state.doc.line(at).from)]) : Decoration.none;
      },
      provide: (field) => EditorView.decorations.from(field),
    });
    const colours = HighlightStyle.define([
      { tag: [tags.keyword, tags.bool, tags.null, tags.operatorKeyword], color: "var(--simulated)" },
      { tag: [tags.comment, tags.string], color: "var(--soft)" },
      { tag: [tags.number], color: "var(--counted)" },
    ]);
    this.extensions = [
      cm.Prec.highest(cm.keymap.of([
        { key: "Mod-Enter", run: () => this.run() },
        { key: "Escape", run: (view) => (view.setTabFocusMode(LEAVES_FOR), false) },
      ])),
      EditorView.lineWrapping, cm.lineNumbers(), cm.history(), cm.drawSelection(), cm.indentOnInput(), cm.bracketMatching(), cm.closeBrackets(),
      cm.python(), cm.indentUnit.of("    "), EditorState.tabSize.of(4), cm.syntaxHighlighting(colours), marks,
      cm.keymap.of([...cm.closeBracketsKeymap, ...cm.historyKeymap, ...cm.defaultKeymap, cm.indentWithTab]),
      EditorState.changeFilter.of((change) => change.newDoc.length <= LONGEST),
      EditorView.contentAttributes.of(() => ({ "aria-label": this.data.label, spellcheck: "false", autocapitalize: "off" })),
      EditorView.updateListener.of((update) => update.docChanged && this.changed()),
      EditorView.domEventHandlers({ blur: () => this.send() }),
    ];
    this.view = new EditorView({ parent: this.find(".editor"), root: host.getRootNode() });
    this.find(".run").onclick = () => this.run();
    this.find(".reset").onclick = () => this.ask(this.text === this.data.stub ? false : this.find(".sure").hidden);
    this.find(".no").onclick = () => this.ask(false);
    this.find(".yes").onclick = () => {
      this.ask(false);
      this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: this.data.stub }, userEvent: "input" });
      this.view.focus();
      this.send();
    };
    // in a hidden tab, and before the page is left or loaded again, nothing waits
    this.leaving = () => document.visibilityState === "hidden" && this.send();
    document.addEventListener("visibilitychange", this.leaving);
  }

  find(what) {
    return this.host.querySelector(what);
  }

  get text() {
    return this.view.state.doc.toString();
  }

  /** What the server says: another exercise or text, a result, that a text was stored. */
  take(data, tell) {
    const before = this.data;
    this.tell = tell;
    const another = before?.id !== data.id || before?.version !== data.version;
    if (another && before) this.send(); // of the exercise before
    this.data = data;
    if (another) {
      this.count = data.count;
      this.view.setState(this.cm.EditorState.create({ doc: data.text, extensions: this.extensions }));
      this.ask(false);
    }
    if (another || before.run !== data.run || before.line !== data.line) this.mark(data);
    // on a phone the results stand below
    if (data.said && before?.said !== data.said && !another && innerWidth < NARROW)
      document.querySelector(".st-key-write-results")?.scrollIntoView({ block: "center" });
    this.find(".file").textContent = data.file;
    this.find(".where").textContent = data.where;
    if (this.find(".said").textContent !== data.said) this.find(".said").textContent = data.said;
    this.find(".does").textContent = data.busy ? "Running the tests…" : "Run the tests";
    this.find(".run").setAttribute("aria-disabled", String(Boolean(data.busy || data.off)));
    this.status();
  }

  /** Mark the line that raised, unless the text has changed since it ran. */
  mark({ line, ran }) {
    this.view.dispatch({ effects: this.raised.of(ran === this.text ? line : 0) });
  }

  ask(open) {
    this.find(".sure").hidden = !open;
    if (open) this.find(".no").focus();
  }

  changed() {
    this.count += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), SEND_AFTER);
    this.status();
  }

  status() {
    const stored = this.data.count >= this.count;
    this.find(".kept").textContent = !stored ? "saving…" : this.text === this.data.stub ? "" : "saved";
  }

  send() {
    clearTimeout(this.timer);
    if (this.count > Math.max(this.data.count, this.sent ?? 0)) this.told("text");
  }

  run() {
    if (this.data.busy || this.data.off) return true;
    clearTimeout(this.timer);
    this.told("run");
    return true;
  }

  told(what) {
    this.sent = this.count;
    clearTimeout(this.lost);
    this.lost = setTimeout(() => {
      this.sent = 0;
      this.send(); // nothing, unless it is still not stored
    }, AGAIN_AFTER);
    const { id } = this.data;
    this.tell(what, { id, text: this.text, count: this.count });
  }

  end() {
    document.removeEventListener("visibilitychange", this.leaving);
    this.send();
    clearTimeout(this.lost);
    this.view.destroy();
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".write");
  host.latest = { data, tell: setTriggerValue };
  const take = () => host.view?.take(host.latest.data, host.latest.tell);
  host.coming ??= import(new URL(data.script, document.baseURI).href).then(
    (cm) => { host.view = new Editor(host, cm); take(); },
    () => setTriggerValue("failed", true),
  );
  take();
  return () => setTimeout(() => host.isConnected || host.view?.end());
}
