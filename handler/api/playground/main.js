// The page: what happens when somebody presses something.

import { ask } from "./api.js";
import { byId } from "./dom.js";
import { Explanation } from "./explanation.js";
import { Generation } from "./generation.js";
import { apiKey, keepApiKey } from "./key.js";
import { Model } from "./model.js";
import { bodyOf } from "./parameters.js";
import { curlCommand, openaiProgram } from "./snippets.js";
import { Transcript } from "./transcript.js";

const form = byId("request");
const writeButton = byId("write-button");
const stopButton = byId("stop-button");
const explainButton = byId("explain-button");

const model = new Model();
const explanation = new Explanation();
const transcript = new Transcript({
    asked: byId("asked"),
    row: byId("text"),
    card: byId("alternatives"),
    spoken: byId("spoken"),
    onWhy: (before, text) => run((signal) => explain(written.prompt + before, text, signal)),
});

let written = { prompt: "" }; // the request whose answer is shown
let atWork; // the AbortController of what is under way

/** Do one thing at a time, until it is done or stopped, and tell what went wrong. */
async function run(work) {
    if (atWork) return;
    atWork = new AbortController();
    setBusy(true);
    byId("problem").textContent = byId("copied").textContent = "";
    try {
        await model.load();
        await work(atWork.signal);
    } catch (error) {
        if (!atWork.signal.aborted) tell(error);
    } finally {
        atWork = undefined;
        setBusy(false);
    }
}

/** The buttons that can be pressed now; the focus does not stay on one that cannot. */
function setBusy(busy) {
    const hadFocus = document.activeElement;
    writeButton.disabled = explainButton.disabled = busy;
    stopButton.disabled = !busy;
    byId("writing").classList.toggle("busy", busy);
    if (hadFocus === writeButton || hadFocus === explainButton) stopButton.focus();
    if (hadFocus === stopButton) writeButton.focus();
}

/** Show what went wrong; whoever has no key, or a wrong one, is asked for it. */
function tell(error) {
    byId("problem").textContent = error.message;
    if (error.status !== 401) return;
    byId("access").open = true;
    byId("key").focus();
}

async function write(signal) {
    written = bodyOf(form, model.name);
    transcript.begin(written.prompt);
    explanation.hide();
    byId("status").textContent = "Writing …";
    const generation = new Generation();
    try {
        await generation.run(written, signal, (choice) => transcript.append(choice));
    } finally {
        byId("status").textContent = generation.summary(signal.aborted);
        model.servedBy(generation.fingerprint);
    }
}

async function explain(prompt, continuation, signal) {
    // An empty prompt is, to the model, the token that begins a text.
    const body = { prompt: prompt || "<|endoftext|>", ...(continuation && { continuation }) };
    const answer = await (await ask("v1/explain", { body, signal })).json();
    model.servedBy(answer.system_fingerprint);
    explanation.show(answer);
}

async function copy(snippet) {
    await model.load();
    const address = new URL("v1", location.href).href;
    await navigator.clipboard.writeText(snippet(address, bodyOf(form, model.name), Boolean(apiKey())));
    byId("copied").textContent = "Copied";
}

form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(write);
});
stopButton.addEventListener("click", () => atWork?.abort());
explainButton.addEventListener("click", () => run((signal) => explain(form.elements.prompt.value, "", signal)));
for (const [id, snippet] of [["copy-curl", curlCommand], ["copy-openai", openaiProgram]]) {
    byId(id).addEventListener("click", () => copy(snippet).catch(tell));
}
form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && atWork?.abort());
byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepApiKey(byId("key").value.trim());
    byId("access").open = false;
    byId("problem").textContent = "";
    model.load().catch(tell);
});

byId("key").value = apiKey();
byId("parameters").open = matchMedia("(min-width: 60rem)").matches;
model.load().catch(tell);
