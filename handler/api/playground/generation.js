// One completion, streamed, and how fast it came.

import { ApiError, ask } from "./api.js";
import { arrivalsOf } from "./events.js";

// As many as the API gives beside each token.
const ALTERNATIVES = 5;

const ENDS = {
    length: "max_tokens reached",
    stop: "ended by itself or a stop string",
    deadline: "cut by the deadline",
};

/** A request for a completion, and what is known of its answer so far. */
export class Generation {
    #started = performance.now();
    #first; // when the first tokens were there, and how many
    #last;
    #tokens = 0;
    #characters = []; // of each choice
    #end;
    fingerprint;

    /** Send the request and hand each choice on as it comes. Throws an ApiError, also for an error on the way. */
    async run(body, signal, onChoice) {
        const streamed = { ...body, logprobs: ALTERNATIVES, stream: true };
        const response = await ask("v1/completions", { body: streamed, signal });
        for await (const events of arrivalsOf(response)) {
            for (const event of events) {
                if (event.error) throw new ApiError(event.error.message);
                this.fingerprint = event.system_fingerprint;
                event.choices.forEach((choice) => this.#add(choice, onChoice));
            }
            this.#arrived();
        }
    }

    #add(choice, onChoice) {
        const before = this.#characters[choice.index] ?? 0;
        this.#characters[choice.index] = before + [...choice.text].length;
        const logprobs = withoutEnd(choice.logprobs, this.#characters[choice.index]);
        this.#tokens += logprobs.tokens.length;
        this.#end = choice.cut_by ?? choice.finish_reason;
        onChoice({ ...choice, logprobs });
    }

    #arrived() {
        if (this.#tokens === (this.#last?.tokens ?? 0)) return; // only how it ended
        this.#last = { at: performance.now(), tokens: this.#tokens };
        this.#first ??= this.#last;
    }

    /** Count, speed, and how it ended, in a line; `stopped` is whether somebody stopped it. */
    summary(stopped) {
        const end = ENDS[this.#end] ?? (stopped ? "stopped" : "not finished");
        if (!this.#first) return end;
        const tokens = `${this.#tokens} ${this.#tokens === 1 ? "token" : "tokens"}`;
        const wait = `${((this.#first.at - this.#started) / 1000).toFixed(2)} s`;
        if (this.#first === this.#last) return `${tokens} at once after ${wait} · ${end}`;
        // Between the first and the last, so that neither the way nor the reading of the prompt counts.
        const speed = (1000 * (this.#last.tokens - this.#first.tokens)) / (this.#last.at - this.#first.at);
        return `${tokens} · first after ${wait} · ${speed.toFixed(0)} tokens/s · ${end}`;
    }
}

/** What is told of the tokens that have text: one by which the model ended it is told of as well, and lies behind. */
function withoutEnd(logprobs, characters) {
    const count = logprobs.text_offset.filter((offset) => offset < characters).length;
    return Object.fromEntries(Object.entries(logprobs).map(([name, list]) => [name, list.slice(0, count)]));
}
