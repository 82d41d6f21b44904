// The text while it is written, each token tinted by how surprising it is, with its alternatives.

import { alternativesList } from "./alternatives.js";
import { element, percent, visible } from "./dom.js";
import { fill, TokenRow } from "./row.js";

// A token of one in a thousand has the full tint.
const SURPRISE = Math.log(1000);

/** Shows the choices of a stream. */
export class Transcript {
    #asked;
    #row;
    #card;
    #spoken;
    #onWhy;
    #characters = []; // the text in code points, as the API's offsets count
    #places = [];

    /** `onWhy` is called with the text before a token and the token's own, when somebody asks why. */
    constructor({ asked, row, card, spoken, onWhy }) {
        this.#asked = asked;
        this.#row = new TokenRow(row, (place) => this.#inspect(place));
        this.#card = card;
        this.#spoken = spoken;
        this.#onWhy = onWhy;
    }

    /** Begin anew, behind a prompt. */
    begin(prompt) {
        this.#asked.textContent = prompt;
        this.#row.clear();
        this.#card.replaceChildren();
        this.#spoken.replaceChildren();
        this.#characters = [];
        this.#places = [];
    }

    /** Append what has become certain of the choice. */
    append({ text, logprobs }) {
        const changed = Math.max(this.#places.length - 1, 0);
        this.#characters.push(...text);
        const { tokens, token_logprobs: own, top_logprobs: tops, text_offset: offsets } = logprobs;
        tokens.forEach((token, i) => this.#addToken(offsets[i], { text: token, logprob: own[i], top: tops[i] }));
        this.#places.slice(changed).forEach((place, i) => this.#draw(place, this.#places[changed + i + 1]));
        this.#spoken.append(text);
    }

    /** Tokens that share a character share a place. */
    #addToken(offset, token) {
        if (this.#places.at(-1)?.offset !== offset) {
            const place = { offset, tokens: [] };
            this.#places.push(Object.assign(place, { span: this.#row.add(place) }));
        }
        this.#places.at(-1).tokens.push(token);
    }

    #draw(place, next) {
        const logprob = place.tokens.reduce((sum, token) => sum + token.logprob, 0);
        place.text = this.#characters.slice(place.offset, next?.offset).join("");
        fill(place.span, place.text);
        place.span.ariaLabel = `${place.text}, ${percent(Math.exp(logprob))}`;
        place.span.style.setProperty("--tint", Math.min(-logprob / SURPRISE, 1).toFixed(3));
    }

    #inspect(place) {
        const why = element("button", { type: "button", textContent: "Why this token?" });
        why.addEventListener("click", () => this.#onWhy(this.#characters.slice(0, place.offset).join(""), place.text));
        this.#card.replaceChildren(...place.tokens.flatMap(about), why);
    }
}

/** One token and what else was probable. */
function about({ text, logprob, top }) {
    const heading = element("h3", {}, element("code", {}, visible(text)), ` ${percent(Math.exp(logprob))}`);
    const alternatives = Object.entries(top).map(([other, log]) => ({ text: other, probability: Math.exp(log) }));
    return [heading, alternativesList(alternatives, text)];
}
