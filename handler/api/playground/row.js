// A text as a row of tokens: one stop of the Tab key, in which the arrow keys walk from token to token. The token under
// the pointer is inspected, and when there is none, the one that was walked to or tapped.

import { element } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

/** The tokens of one element. */
export class TokenRow {
    #element;
    #inspect;
    #values = new Map(); // what each span stands for
    #chosen;

    /** `inspect` is called with what a token was added with. */
    constructor(row, inspect) {
        this.#element = row;
        this.#inspect = (span) => this.#values.has(span) && inspect(this.#values.get(span));
        row.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.#inspect(tokenAt(event)));
        row.addEventListener("pointerleave", () => this.#inspect(this.#chosen));
        row.addEventListener("focusin", (event) => this.#choose(event.target));
        row.addEventListener("keydown", (event) => this.#walk(event));
    }

    /** Remove all tokens. */
    clear() {
        this.#element.replaceChildren();
        this.#values.clear();
        this.#chosen = undefined;
    }

    /** Append a token that stands for `value`, and return its element, to be filled by `fill`. */
    add(value) {
        const span = element("span", { role: "option", tabIndex: this.#values.size ? -1 : 0, ariaSelected: "false" });
        this.#values.set(span, value);
        this.#element.append(span);
        return span;
    }

    #choose(span) {
        for (const each of this.#element.querySelectorAll("[tabindex='0']")) this.#mark(each, false);
        this.#mark(span, true);
        this.#chosen = span;
        this.#inspect(span);
    }

    #mark(span, chosen) {
        span.tabIndex = chosen ? 0 : -1;
        span.ariaSelected = String(chosen);
    }

    #walk(event) {
        const step = STEPS[event.key];
        if (!step) return;
        event.preventDefault();
        const spans = [...this.#values.keys()];
        const next = spans.indexOf(event.target) + step;
        spans[Math.min(Math.max(next, 0), spans.length - 1)].focus();
    }
}

/** Write a token's text. The space before a word is no part of the tint, which would stick out where a line ends. */
export function fill(span, text) {
    const space = text.trim() ? text.search(/\S/) : 0;
    span.replaceChildren(text.slice(0, space), element("mark", {}, text.slice(space)));
}

const tokenAt = (event) => event.target.closest("[role='option']");
