/** The labelling page: items in hand, verdicts on their way, and what is on the screen. */

import { $, h, capital, scrollable } from "./dom.js";
import { Api } from "./api.js";
import { Compare } from "./compare.js";
import { FlagDialog } from "./flag.js";
import { GuidelinesPane } from "./guidelines.js";
import { Help } from "./help.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { AHEAD, Queue, same } from "./queue.js";
import { Rank } from "./rank.js";
import { isOn, toggle } from "./settings.js";
import { listen } from "./keys.js";
import { showProgress } from "./progress.js";
import { conversation } from "./turns.js";
import { troubleWords } from "./trouble.js";
import { verdictWords } from "./words.js";

// Nobody reads two answers in so short a time: a key that comes then was meant for the item before.
const SETTLED = 150;
const ASK_AGAIN = 20_000;
const REMEMBERED = 50;

class Page {
  constructor(me) {
    this.name = me.name;
    this.queue = new Queue();
    this.history = [];
    this.shownAt = 0;
    this.exhausted = false;
    this.compare = new Compare((verdict) => this.pressed(verdict));
    this.rank = new Rank((verdict) => this.answer(verdict), tell);
    this.guidelines = new GuidelinesPane(api, tell);
    this.flag = new FlagDialog((reason) => this.answer({ decline: "flag", reason }));
    this.help = new Help(() => this.show());
    this.outbox = new Outbox(`keel.unsent.${me.name}`, (trouble, unsent) => this.troubled(trouble, unsent));
    this.presence = new Presence({
      beat: () => this.beat(),
      back: () => this.renew(),
      left: () => this.leave(),
    });
    this.#wire();
    showProgress(me.progress);
    this.guidelines.notice(me.guideline);
    for (const body of Outbox.kept(this.outbox.shelf)) this.#send(null, body);
    this.fetch();
    setInterval(() => this.exhausted && this.presence.visible && this.fetch(), ASK_AGAIN);
  }

  /** Asks for items, where it is not being done already. */
  fetch() {
    if (this.fetching) return;
    this.fetching = true;
    this.outbox.push({
      send: () => api.post("/api/next", { count: 1 + AHEAD }),
      done: (reply) => {
        this.fetching = false;
        this.received(reply, reply.items);
      },
      refused: (error) => {
        this.fetching = false;
        this.say(capital(error.message));
      },
    });
  }

  received(reply, items) {
    if (reply.progress) showProgress(reply.progress);
    this.guidelines.notice(reply.guideline);
    const before = this.queue.current;
    this.queue.merge(items);
    this.exhausted = this.queue.current === null;
    if (before === null) this.show();
  }

  /** A button or a key of the seven: sent at once, or only chosen where that is set. */
  pressed(verdict) {
    if (!this.ready) {
      // The second half of a double click would leave the focus on a button of the next item.
      $("prompt-title").focus({ preventScroll: true });
    } else if (isOn("confirm") && this.compare.armed !== verdict.pressed) {
      this.compare.arm(verdict.pressed);
      this.say(`${capital(verdictWords(verdict))}: once more, or Enter, sends it`);
    } else this.answer(verdict);
  }

  /** Enter: what is chosen, or ordered, is sent. */
  confirm() {
    if (!this.ready) return false;
    if (this.queue.current.ranked) this.rank.submit();
    else if (this.compare.draft) this.answer(this.compare.draft);
    else this.say("Nothing is chosen yet");
    return true;
  }

  get ready() {
    return this.queue.current !== null && performance.now() - this.shownAt > SETTLED;
  }

  answer(verdict) {
    if (!this.ready) return;
    const item = this.queue.current;
    const note = $("note").value.trim();
    const said = { note, reason: "", ...verdict, looked: this.presence.looked, guideline: this.guidelines.version };
    this.queue.take();
    const entry = { item, said, refused: false };
    entry.job = this.#send(entry, said);
    this.history.push(entry);
    // What is older is undone by asking the server for it.
    if (this.history.length > REMEMBERED) this.history.shift();
    this.say(`✓ ${capital(verdictWords(verdict))}${note ? ", with a note" : ""}`);
    this.show();
  }

  /** The last answer is taken back: its item is on the screen at once, and the server hears of it in order. */
  undo() {
    const entry = this.history.pop();
    if (!entry) return this.#undoEarlier();
    // A note that is half written stays with its item.
    if (this.item) this.item.note = $("note").value;
    const item = entry.item;
    item.said = entry.said;
    item.note = entry.said.note;
    const unsent = this.outbox.cancel(entry.job);
    this.queue.putBack(item, !unsent);
    if (!unsent) {
      const token = item.token;
      this.outbox.push({
        send: async () => (entry.refused ? null : takeBack(item, token)),
        done: (reply) => this.#undone(item, reply),
        refused: (error) => this.#lose(item, capital(error.message)),
      });
    }
    this.say(`Taken back: ${verdictWords(entry.said)}`);
    this.show();
  }

  /** What was answered before this page was loaded, the server knows. */
  #undoEarlier() {
    this.outbox.push({
      send: () => api.post("/api/undo", { token: null }),
      done: (reply) => {
        if (reply.progress) showProgress(reply.progress);
        if (!reply.item) return this.say("There is nothing to undo");
        this.queue.putBack({ ...reply.item, said: reply.said, note: reply.said?.note ?? "" }, false);
        this.say("Taken back");
        this.show();
      },
      refused: (error) => this.say(capital(error.message)),
    });
  }

  #undone(item, reply) {
    if (reply?.progress) showProgress(reply.progress);
    if (reply?.item) this.queue.renew(item, reply.item);
    else this.#lose(item, capital(reply?.why ?? "this item is no longer yours."));
  }

  #lose(item, words) {
    const current = this.queue.current === item;
    this.queue.drop(item);
    this.say(words);
    if (current) this.show();
  }

  #send(entry, said) {
    return this.outbox.push({
      keep: () => (entry ? { ...said, token: entry.item.token } : said),
      send: () => api.post("/api/judgements", { ahead: AHEAD, ...said, token: entry ? entry.item.token : said.token }),
      done: (reply) => this.received(reply, reply.next),
      refused: (error) => {
        if (entry) {
          entry.refused = true;
          this.history = this.history.filter((one) => one !== entry);
        }
        this.say(`Not recorded: ${error.message}`);
        this.fetch();
      },
    });
  }

  /** Paints the first item in hand, or says why there is none. */
  show() {
    const item = this.queue.current;
    const changed = item !== this.item;
    this.item = item;
    this.presence.look(item);
    $("item").hidden = $("verdict").hidden = item === null;
    for (const name of ["both-bad", "skip", "open-flag", "open-note"]) $(name).disabled = item === null;
    this.#quiet(item);
    if (item === null) return this.#blankNote();
    this.#paint(item, changed);
    if (!changed) return;
    this.shownAt = performance.now();
    $("note").value = item.note;
    this.note(item.note !== "");
    scrollTo(0, 0);
    if (!document.querySelector("dialog[open]")) $("prompt-title").focus({ preventScroll: true });
    if (this.queue.items.length === 1) this.fetchSoon();
  }

  #paint(item, changed) {
    const mode = item.ranked ? this.rank : this.compare;
    this.help.ranked = item.ranked;
    $("prompt").replaceChildren(...conversation(item.prompt));
    mode.show(item, changed ? item.said : mode.draft);
    document.querySelector("h1").textContent = item.ranked ? "Rank the answers" : "Which answer is better?";
    $("both-bad-words").firstChild.textContent = item.ranked ? "All bad" : "Both bad";
    requestAnimationFrame(() => setTimeout(() => scrollable($("item"))));
  }

  /** The last item in hand is on the screen, and nothing is on its way that would bring another. */
  fetchSoon() {
    if (this.outbox.waiting === 0) this.fetch();
  }

  #quiet(item) {
    $("quiet").hidden = item !== null;
    if (item !== null) return;
    if (this.exhausted && this.outbox.unsent === 0) {
      $("quiet").replaceChildren(
        h("h2", {}, "All done for now"),
        h("p", {}, "There is nothing for you at the moment. Thank you!"),
        h("p", { class: "soft" }, "This page looks for more every now and then, or come back later."),
      );
    } else {
      const words = this.outbox.trouble
        ? "The next item comes when the server can be reached."
        : "Fetching the next item …";
      $("quiet").replaceChildren(h("p", { class: "soft" }, words));
      this.fetchSoon();
    }
  }

  #blankNote() {
    $("note").value = "";
    this.note(false);
  }

  note(open) {
    $("note-row").hidden = !open;
    $("open-note").setAttribute("aria-expanded", String(open));
  }

  /** What was done last, seen and heard. */
  say(words) {
    $("said").textContent = words;
  }

  troubled(trouble, unsent) {
    $("alarm").hidden = trouble === null;
    $("alarm").replaceChildren(...(trouble ? troubleWords(trouble, unsent, () => this.outbox.retry()) : []));
    if (this.queue.current === null) this.show();
  }

  /** Signs of life for what is in hand; what is lost is fetched anew. */
  async beat() {
    for (const item of this.queue.items.filter((one) => !one.undone)) {
      try {
        const reply = await api.post("/api/heartbeat", { token: item.token });
        this.guidelines.notice(reply.guideline);
      } catch (error) {
        if (error.status === 409) return this.renew();
        if (!error.passing) throw error;
      }
    }
  }

  /** The page was away, perhaps for longer than the leases last: what others have now is put away. */
  renew() {
    if (this.queue.current === null) return this.fetch();
    this.outbox.push({
      send: () => api.post("/api/next", { count: 1 + AHEAD }),
      done: (reply) => {
        const current = this.queue.current;
        const gone = this.queue.items.length <= 1 + AHEAD ? this.queue.keep(reply.items) : 0;
        this.received(reply, reply.items);
        if (gone && this.queue.current !== current) {
          this.say("The item before was held too long: somebody else has it");
          this.show();
        }
      },
      refused: (error) => this.say(capital(error.message)),
    });
  }

  /** What is ahead goes to others at once. The item on the screen stays held for a reload, until its lease ends. */
  leave() {
    for (const item of this.queue.items.slice(1)) {
      if (!item.undone) api.post("/api/release", { token: item.token }).catch(() => {});
    }
  }

  raw() {
    toggle("raw");
    if (this.item) this.#paint(this.item, false);
    tell(isOn("raw") ? "Raw text" : "Markdown");
  }

  #escape() {
    if (document.activeElement === $("note")) {
      if ($("note").value.trim() === "") this.note(false);
      $("prompt-title").focus({ preventScroll: true });
      return true;
    }
    return this.rank.release() || this.guidelines.close();
  }

  #openNote() {
    this.note(true);
    $("note").focus();
  }

  #wire() {
    const decline = (name) => this.ready && this.answer({ decline: name });
    const flag = () => this.ready && this.flag.open();
    const digits = Object.fromEntries(
      Array.from({ length: 9 }, (_, index) => [String(index + 1), () => this.#digit(index + 1)]),
    );
    const move = (by) => () => Boolean(this.item?.ranked) && this.rank.move(by);
    listen({
      ...digits,
      Enter: () => this.confirm(),
      ArrowUp: move(-1),
      ArrowDown: move(1),
      "Alt+ArrowUp": move(-1),
      "Alt+ArrowDown": move(1),
      b: () => decline("both_bad"),
      s: () => decline("skip"),
      f: flag,
      n: () => this.item !== null && this.#openNote(),
      u: () => this.undo(),
      g: () => this.guidelines.toggle(),
      r: () => this.raw(),
      "?": () => this.help.open(),
      Escape: () => this.#escape(),
    });
    $("both-bad").addEventListener("click", () => decline("both_bad"));
    $("skip").addEventListener("click", () => decline("skip"));
    $("open-flag").addEventListener("click", flag);
    $("open-note").addEventListener("click", () => ($("note-row").hidden ? this.#openNote() : this.note(false)));
    $("undo").addEventListener("click", () => this.undo());
    addEventListener(
      "beforeunload",
      (event) => this.outbox.unsent > 0 && this.outbox.trouble && event.preventDefault(),
    );
  }

  #digit(number) {
    if (!this.ready) return false;
    return this.item.ranked ? this.rank.choose(number) : this.compare.press(number);
  }
}

/** Withdraws the judgement that has this token; where a first try did so and its reply was lost, finds its item. */
async function takeBack(item, token) {
  try {
    return await api.post("/api/undo", { token });
  } catch (error) {
    if (error.status !== 409) throw error;
    const { items } = await api.post("/api/next", { count: 1 + AHEAD });
    return { item: items.find((one) => same(one, item)) ?? null, why: error.message };
  }
}

/** Heard by screen readers, not seen. */
function tell(words) {
  $("heard").textContent = words;
}

const api = new Api(document.querySelector("meta[name=csrf]").content);

async function start() {
  const me = await api.get("/api/me");
  new Page(me);
}

start().catch((error) => {
  $("alarm").hidden = false;
  $("alarm").replaceChildren(...troubleWords(error, 0, () => location.reload()));
});
