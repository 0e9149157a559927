// What the adapters of both stores share: the calls of docs/sync.md, and how the edits of two devices become one.

const SERVERS = `kind id patient_id version change_seq deleted local_date received_at author_id
  outside_validated_age treatment_name flags`.split(/\s+/);

/** A patient's diary, at …/v1/patients/{id}; `token()` is asked for an access token before each call. */
export function openDiary(url, token, fetch = globalThis.fetch) {
  async function call(path, body) {
    const headers = { Authorization: `Bearer ${await token()}`, "Content-Type": "application/json" };
    const asked = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
    const answer = await fetch(`${url}/sync/${path}`, asked);
    if (!answer.ok) throw Object.assign(new Error(`The diary answered ${answer.status}`), await answer.json());
    return answer.json();
  }
  const post = (mutations, outbox_empty = false) =>
    call("push", { device_id: "example", client_now: new Date().toISOString(), mutations, outbox_empty });
  async function push(mutations) {
    const results = [];
    for (let at = 0; at < mutations.length; at += 100)
      results.push(...(await post(mutations.slice(at, at + 100))).results);
    return results;
  }
  const pull = (cursor, limit = 500) => call(`pull?${new URLSearchParams({ limit, ...(cursor && { cursor }) })}`);
  async function pullAll(cursor) {
    const changes = new Map(); // a record that is changed meanwhile comes again
    for (let more = true; more; ) {
      const page = await pull(cursor);
      page.changes.forEach((change) => changes.set(change.id, change));
      ({ cursor, has_more: more } = page);
    }
    return { changes: [...changes.values()], cursor };
  }
  return { pull, pullAll, push, sayNothingIsLeft: () => post([], true) };
}

/** A mutation whose id follows from what it says, so that repeating it repeats the id too; without data it deletes. */
export async function mutation(kind, id, base_version, data) {
  const said = { op: data ? "put" : "delete", kind, id, base_version, data };
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(said)));
  const hex = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const mutation_id = hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, "$1-$2-4$3-8$4-$5");
  return { mutation_id, ...said };
}

/** Will the server not take it, as it is or from this person? */
export const isRefused = ({ status }) => status === "invalid" || status === "forbidden";

/** Did the server have it already, and others changed it since? The result has their copy. */
export const isOvertaken = ({ status, record, deleted }) => status === "unchanged" && Boolean(record || deleted);

/** What the phone says of a record: without what the server adds. */
export function dataOf(record) {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !SERVERS.includes(name)));
}

/** Their fields, but for those that I changed since `base`. */
export function merge(base, mine, theirs) {
  const differs = (name) => JSON.stringify(base[name]) !== JSON.stringify(mine[name]);
  const changed = Object.keys({ ...base, ...mine }).filter(differs);
  const merged = { ...theirs, ...Object.fromEntries(changed.map((name) => [name, mine[name]])) };
  return JSON.parse(JSON.stringify(merged)); // what I took out is undefined, and goes
}
