// A request as a command line and as a program, for people to go on from. The key is never in them.

const VARIABLE = "GPT2_API_KEY";

/** A command for any POSIX shell. */
export function curlCommand(address, body, needsKey) {
    return [
        `curl -s ${shellQuoted(`${address}/completions`)}`,
        ...(needsKey ? [`-H "Authorization: Bearer $${VARIABLE}"`] : []),
        "-H 'Content-Type: application/json'",
        `-d ${shellQuoted(JSON.stringify(body))}`,
    ].join(" \\\n    ");
}

/** Between single quotes nothing but a single quote means anything. */
const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// What OpenAI's API knows is an argument of its client; the rest goes into `extra_body`.
const OURS = ["top_k", "min_p", "repetition_penalty"];

/** A program for the openai client. */
export function openaiProgram(address, body, needsKey) {
    const entries = Object.entries(body);
    const ours = entries.filter(([name]) => OURS.includes(name));
    const lines = entries.filter(([name]) => !OURS.includes(name)).map(([name, value]) => `${name}=${literal(value)}`);
    if (ours.length) lines.push(`extra_body=${literal(Object.fromEntries(ours))}`);
    const key = needsKey ? `os.environ["${VARIABLE}"]` : '"any"';
    return [
        ...(needsKey ? ["import os", ""] : []),
        "from openai import OpenAI",
        "",
        `client = OpenAI(base_url=${literal(address)}, api_key=${key})`,
        "completion = client.completions.create(",
        ...lines.map((line) => `    ${line},`),
        ")",
        "print(completion.choices[0].text)",
        "",
    ].join("\n");
}

/** Strings, numbers, and lists and objects of them are written in Python as in JSON. */
const literal = JSON.stringify;
