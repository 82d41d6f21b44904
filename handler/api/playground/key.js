// The API key: kept for as long as the tab is open, and read by nobody else.

const NAME = "gpt2-api-key";

/** The key, or an empty string. */
export const apiKey = () => sessionStorage.getItem(NAME) ?? "";

/** Keep a key for this tab; an empty one forgets it. */
export function keepApiKey(key) {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
}
