// What is served here: the model, its version and its engine.

import { ask } from "./api.js";
import { byId } from "./dom.js";

/** The model of this service, once the service has said which. */
export class Model {
    #loading;
    #facts;
    #engine;

    /** Its name for requests; undefined before it is known. */
    get name() {
        return this.#facts?.id;
    }

    /** Ask the service, unless it has answered before. Throws an ApiError. */
    async load() {
        this.#loading ??= this.#ask();
        try {
            await this.#loading;
        } catch (error) {
            this.#loading = undefined;
            throw error;
        }
    }

    async #ask() {
        const { data } = await (await ask("v1/models")).json();
        this.#facts = await (await ask(`v1/models/${encodeURIComponent(data[0].id)}`)).json();
        this.#show();
    }

    /** Learn the engine from an answer's fingerprint, which begins with the version. */
    servedBy(fingerprint) {
        if (!this.#facts || !fingerprint) return;
        this.#engine = fingerprint.slice(this.#facts.version.length + 1);
        this.#show();
    }

    #show() {
        const { id, version, architecture, layout, dtype } = this.#facts;
        const size = `${(architecture.parameters / 1e6).toPrecision(3)} M parameters in ${layout ?? dtype}`;
        const context = `context of ${architecture.context_length} tokens`;
        byId("model").textContent = [id, version, size, context, this.#engine].filter(Boolean).join(" · ");
    }
}
