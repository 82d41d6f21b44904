// Asks the service. Addresses are relative to the page's, so a stage's path in front of both does no harm.

import { apiKey } from "./key.js";

/** What the service refused, in its own words. */
export class ApiError extends Error {
    /** `status` is the response's, or undefined for an error on the way. */
    constructor(message, status) {
        super(message);
        this.status = status;
    }
}

/** The response to a request, a POST where there is a body. Throws an ApiError for any but a success. */
export async function ask(path, { body, signal } = {}) {
    const headers = new Headers();
    if (apiKey()) headers.set("Authorization", `Bearer ${apiKey()}`);
    if (body) headers.set("Content-Type", "application/json");
    const method = body ? "POST" : "GET";
    const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
    if (response.ok) return response;
    throw new ApiError(await wordsOf(response), response.status);
}

/** What a refusal says: the API's message, or that of the gateway before it. */
async function wordsOf(response) {
    const words = messageIn(await response.text()) ?? `The service answered ${response.status} ${response.statusText}.`;
    const later = response.headers.get("Retry-After");
    return later ? `${words} Try again in ${later} s.` : words;
}

function messageIn(text) {
    try {
        const said = JSON.parse(text);
        return said.error?.message ?? said.message;
    } catch {
        return undefined; // not of the API, nor of API Gateway
    }
}
