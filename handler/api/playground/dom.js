// Makes elements. Whatever text comes in becomes a text node, so nobody's words are ever read as HTML.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with these properties and children; a string among the children is text. */
export function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
}

/** A token's text with what one does not see in it made visible. */
export function visible(text) {
    return text.replace(/^bytes:/, "").replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

/** A probability as people write it. */
export function percent(probability) {
    if (probability < 0.0001) return "< 0.01 %";
    return `${(probability * 100).toPrecision(probability < 0.1 ? 2 : 3)} %`;
}
