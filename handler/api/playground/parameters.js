// From the form to the body of a request.

/** The body of a completions request: what was filled in, under the names the API has for it. */
export function bodyOf(form, model) {
    const { prompt, stop } = form.elements;
    const body = { ...(model && { model }), prompt: prompt.value };
    const filled = [...form.elements].filter((each) => each.matches("input[name]") && each.value.trim());
    for (const { name, value } of filled) body[name] = asNumber(value);
    const stops = stop.value.split("\n").filter((line) => line);
    if (stops.length) body.stop = stops.map((line) => line.replaceAll("\\n", "\n"));
    return body;
}

/** A number; or the text itself where it is none, or none JavaScript can hold: the API says what is wrong with it. */
function asNumber(text) {
    const number = Number(text);
    const exact = Number.isInteger(number) ? Number.isSafeInteger(number) : Number.isFinite(number);
    return exact ? number : text;
}
