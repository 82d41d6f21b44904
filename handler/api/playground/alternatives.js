// What else was probable at a position: bars, the token that stands there marked among them.

import { element, percent, visible } from "./dom.js";

/** A list of `{ text, probability }`, the best first; `chosen` is the text of the token that stands there. */
export function alternativesList(alternatives, chosen) {
    const sorted = alternatives.toSorted((one, other) => other.probability - one.probability);
    return element("ol", { className: "alternatives" }, ...sorted.map((each) => row(each, each.text === chosen)));
}

function row({ text, probability }, isChosen) {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--share", probability);
    const item = element("li", {}, element("code", {}, visible(text)), element("span", {}, percent(probability)), bar);
    if (isChosen) item.className = "chosen";
    return item;
}
