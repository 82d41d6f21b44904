// Why a token came next: how much each token of the prompt spoke for it, and how uncertain the model was.

import { alternativesList } from "./alternatives.js";
import { byId, element, percent, visible } from "./dom.js";
import { fill, TokenRow } from "./row.js";

// In nats: what makes no difference worth telling, and what is pale however small the others are.
const NOTHING = Math.log(1.05);
const LEAST_SCALE = 0.5;

/** Shows the API's explanations. */
export class Explanation {
    #section = byId("explanation");
    #row = new TokenRow(byId("evidence"), (token) => this.#inspect(token));
    #spans = []; // those of the prompt
    #shown; // the token of the continuation that is being explained

    /** Show nothing. */
    hide() {
        this.#section.hidden = true;
    }

    /** Show the answer of `/v1/explain`. */
    show({ prompt, continuation }) {
        this.#row.clear();
        this.#spans = prompt.map((token, index) => this.#add({ ...token, index }));
        continuation.forEach((token) => this.#add(token).classList.add("explained"));
        this.#explain(continuation[0]);
        this.#section.hidden = false;
        byId("explanation-title").focus();
    }

    #add(token) {
        const span = this.#row.add(token);
        fill(span, token.text.replace(/^bytes:/, ""));
        return span;
    }

    #inspect(token) {
        if (token.contributions) this.#explain(token);
        else this.#tell(token.index);
    }

    /** Tint the prompt by what it contributed to one token of the continuation. */
    #explain(token) {
        this.#shown = token;
        const choices = Math.exp(token.entropy);
        byId("verdict").replaceChildren(
            element("code", {}, visible(token.text)),
            ` had a probability of ${percent(token.probability)}. The entropy was ${token.entropy.toFixed(2)} nats: `,
            `as uncertain as among ${choices.toFixed(choices < 10 ? 1 : 0)} equally probable tokens.`,
        );
        byId("candidates").replaceChildren(alternativesList(token.alternatives, token.text));
        const scale = Math.max(...token.contributions.map(Math.abs), LEAST_SCALE);
        this.#spans.forEach((span, i) => {
            const contribution = token.contributions[i];
            span.classList.toggle("against", contribution < -NOTHING);
            span.style.setProperty("--tint", (Math.abs(contribution) / scale).toFixed(3));
            span.ariaLabel = `${span.textContent}, ${signed(contribution)} nats`;
        });
        this.#tell(token.contributions.indexOf(Math.max(...token.contributions)));
    }

    /** Say what one token of the prompt contributed. */
    #tell(index) {
        const contribution = this.#shown.contributions[index];
        const times = Number(Math.exp(Math.abs(contribution)).toPrecision(2)).toLocaleString("en");
        const change = `${times} times ${contribution > 0 ? "less" : "more"} probable`;
        byId("contribution").replaceChildren(
            element("code", {}, visible(this.#spans[index].textContent)),
            ` ${signed(contribution)} nats: without it, `,
            element("code", {}, visible(this.#shown.text)),
            ` is ${Math.abs(contribution) > NOTHING ? change : "about as probable"}.`,
        );
    }
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
