// Starts the page's explorers without a kernel. It implements the front-end module contract that
// anywidget publishes (https://anywidget.dev/en/afm/) for top-level anywidgets whose state Jupyter
// stored in the page. State and code arrive as JSON; nothing is ever written as HTML.
(() => {
  const MIME = "application/vnd.jupyter.widget-";
  const leaving = new AbortController(); // aborts when the reader leaves the page for good
  const modules = new Map(); // _esm text -> its module: one blob for each distinct text
  const started = new Map(); // model id -> the running widget, shared by all its views
  const styles = new Set();

  class Model {
    #state;
    #listeners = new Map();
    constructor(state) { this.#state = { ...state }; }
    get(name) { return this.#state[name]; }
    set(name, value) {
      const asked = typeof name === "object" ? Object.entries(name) : [[name, value]];
      const changes = asked.filter(([key, each]) => this.#state[key] !== each);
      Object.assign(this.#state, Object.fromEntries(changes));
      for (const [key, each] of changes) this.#emit(`change:${key}`, each);
      if (changes.length) this.#emit("change");
    }
    on(event, listener) {
      if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
      this.#listeners.get(event).add(listener);
    }
    off(event, listener) {
      if (event == null) this.#listeners.clear();
      else if (listener == null) this.#listeners.delete(event);
      else this.#listeners.get(event)?.delete(listener);
    }
    save_changes() {} // the page is the only place where its state lives
    send() { console.warn("This page has no kernel: a message of an explorer was dropped."); }
    #emit(event, ...details) {
      for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(this, ...details);
    }
  }

  function readStates() {
    const scripts = document.querySelectorAll(`script[type="${MIME}state+json"]`);
    return Object.assign({}, ...[...scripts].map((each) => JSON.parse(each.textContent).state));
  }

  function importText(esm) {
    const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    return import(url).finally(() => URL.revokeObjectURL(url));
  }

  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  function cleanUpLater(cleanup) {
    if (typeof cleanup === "function") leaving.signal.addEventListener("abort", cleanup);
  }

  async function start(stored) {
    if (!stored) throw new Error("its state is not stored in this page");
    if (stored.model_module !== "anywidget") throw new Error("it needs a running kernel");
    const { _esm: esm, _css: css } = stored.state;
    addStyle(css);
    if (!modules.has(esm)) modules.set(esm, importText(esm));
    const { default: exported } = await modules.get(esm);
    const widget = typeof exported === "function" ? await exported() : exported;
    if (!widget?.render) throw new Error("its module exports nothing to render");
    const model = new Model(stored.state);
    cleanUpLater(await widget.initialize?.({ model, signal: leaving.signal }));
    return { model, widget };
  }

  async function show(view, states) {
    const el = document.createElement("div");
    view.after(el);
    try {
      const id = JSON.parse(view.textContent).model_id;
      if (!started.has(id)) started.set(id, start(states[id]));
      const { model, widget } = await started.get(id);
      // Beyond the contract: the address of this page may hold the state of its explorer.
      const grants = { ownsAddress: true };
      cleanUpLater(await widget.render({ model, el, signal: leaving.signal, ...grants }));
    } catch (error) {
      console.error(error);
      const text = `This explorer could not start: ${error.message}.`;
      el.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
      el.setAttribute("role", "alert");
    }
  }

  addEventListener("pagehide", (event) => event.persisted || leaving.abort());
  const states = readStates(); // the script is deferred, so the page has been read
  document.querySelectorAll(`script[type="${MIME}view+json"]`).forEach((v) => show(v, states));
})();
