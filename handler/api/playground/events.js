// Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) as the API writes them:
// each is one line `data: JSON`, the last one `data: [DONE]`. It makes no difference how they arrive: one by one,
// several at once, cut anywhere, or all in one body where the way between cannot stream.

import { ApiError } from "./api.js";

/** The events of a response, in lists of those that arrived together. Throws an ApiError where they break off. */
export async function* arrivalsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new ApiError("The answer broke off before its end.");
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        const events = parts.map((part) => part.replace(/^data: /, ""));
        const end = events.indexOf("[DONE]");
        yield events.slice(0, end < 0 ? undefined : end).map((event) => JSON.parse(event));
        if (end >= 0) return;
    }
}
