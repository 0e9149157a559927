// What the adapters of both stores share: docs/sync.md, and how the edits of two devices become one.

const SERVERS = `kind id patient_id version change_seq deleted local_date received_at author_id
  outside_validated_age validated_age_unknown offset_differs_from_zone`.split(/\s+/);
const KEYS = { // what makes the items of a list distinct; of other lists the whole item does
  sites: ["region", "depth"], scores: ["measure", "scale"], triggers: ["code"], red_flags: ["code"],
  relief: ["code", "treatment_event_id"], associated_symptoms: ["code"], side_effects: ["code"],
  ingredients: ["name"], pauses: ["from"], regimens: ["valid_from", "line"],
};
const IN_ORDER = ["pauses", "regimens"]; // of their times
const WITH_MEMBERS = ["interference", "sleep"]; // objects whose members say something each
const REFUSED_WHOLE = [400, 413, 422];
const NO_VERSION = 2_000_000_000; // no record has it: changing that is answered with the server's copy

/**
 * A patient's diary, at …/v1/patients/{id}; `token()` is asked for an access token before each call.
 * `refused` gets what the server will not take, to show it to somebody.
 */
export function openDiary(url, token, refused = console.error, fetch = globalThis.fetch) {
  let epoch; // of which the versions are that the store holds, as far as we know
  const shown = new Set(); // of what cannot be merged: stores ask more than once
  const made = new Map(); // the versions that were pushed, by id: the store has them after the next pull

  async function call(path, body) {
    const headers = { Authorization: `Bearer ${await token()}`, "Content-Type": "application/json" };
    const asked = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
    const answer = await fetch(`${url}/sync/${path}`, asked);
    if (answer.ok) return answer.json();
    const problem = await answer.json().catch(() => ({})); // somebody else answered
    throw Object.assign(new Error(`The diary answered ${answer.status}`), problem, { status: answer.status });
  }

  async function read(place, limit = 500) {
    const query = new URLSearchParams({ limit, ...(place && { cursor: place.cursor }) });
    const { changes, cursor, epoch, has_more } = await call(`pull?${query}`);
    return { changes: changes.map((change) => ({ ...change, epoch })), place: { cursor, epoch }, has_more };
  }

  async function readAll(place) {
    const changes = new Map(); // a record that is changed meanwhile comes again
    for (let more = true; more; ) {
      const page = await read(place);
      page.changes.forEach((change) => changes.set(change.id, change));
      ({ place, has_more: more } = page);
    }
    return { changes: [...changes.values()], place };
  }

  /** Remembers the epoch that comes with what is pulled from there on. */
  async function continued(place, pulled) {
    epoch ??= place?.epoch;
    const page = await pulled;
    ({ epoch } = page.place);
    return page;
  }

  const post = (said) => call("push", { device_id: "example", client_now: new Date().toISOString(), ...said });

  async function send(mutations, epoch) {
    const { length } = new TextEncoder().encode(JSON.stringify(mutations));
    const inHalves = async (half = mutations.length >> 1) => {
      return [...(await send(mutations.slice(0, half), epoch)), ...(await send(mutations.slice(half), epoch))];
    };
    if (mutations.length > 1 && (mutations.length > 100 || length > 500_000)) return inHalves();
    let answer = { results: [] };
    try {
      if (mutations.length) answer = await post({ mutations, epoch });
    } catch (error) {
      if (!REFUSED_WHOLE.includes(error.status)) throw error;
      if (mutations.length > 1) return inHalves(); // until the one stands alone
      await post({ mutations: [], epoch }); // throws where the fault is not in the mutation
      const { errors = [], detail } = error;
      answer = { results: [{ status: "invalid", errors, detail }], epoch };
    }
    const results = answer.results.map((result, at) => ({ ...mutations[at], ...result, epoch: answer.epoch }));
    results.filter(isRefused).forEach((result) => refused(result));
    return results;
  }

  /** Offers again what the server lacks or has otherwise. What is deleted stays deleted. */
  async function offer(copy) {
    const { changes, place } = await readAll();
    const now = new Map(changes.map((change) => [change.id, change]));
    const isThere = ({ id, data }) => JSON.stringify(data) === JSON.stringify(dataOf(now.get(id)?.record ?? {}));
    const isLost = (one) => one.epoch !== place.epoch && !now.get(one.id)?.deleted && !isThere(one);
    const known = copy.map((one) => {
      return { ...one, epoch: one.epoch || epoch, version: Math.max(one.version, made.get(one.id) ?? 1) };
    });
    const latest = new Map(known.sort((a, b) => a.version - b.version).map((one) => [one.id, one]));
    const offers = [...latest.values()].filter(isLost).map(({ kind, id, data, version, epoch: reoffer }) =>
      mutation({ kind, id, base_version: now.get(id)?.version ?? 0, data, reoffer, version }),
    );
    await send(await Promise.all(offers), place.epoch);
  }

  return {
    /** A page of what changed since that place. An error with an `action` asks for startAgain(). */
    pull: (place, limit) => continued(place, read(place, limit)),

    /** All that changed since that place, each record once. */
    pullAll: (place) => continued(place, readAll(place)),

    /**
     * Everything as it is now, where a place is no good any more; after a restore with what that had lost.
     * `copy` is what the server was known to have: { kind, id, version, epoch, data }, without data what is deleted;
     * of several versions of a record the latest counts.
     */
    async startAgain({ action }, copy) {
      if (action === "reoffer") await offer(copy);
      const { changes, place } = await readAll();
      const seen = new Set(changes.map(({ id }) => id));
      const hidden = action === "reload" ? copy.filter(({ id }) => !seen.has(id)) : [];
      changes.push(...hidden.map((one) => ({ ...one, deleted: true, reason: "withdrawn" })));
      ({ epoch } = place);
      made.clear();
      return { changes, place };
    },

    /** What became of edits: { kind, id, data, version, epoch }, without data to delete. The version is what was edited. */
    async push(edits) {
      epoch ??= edits.find((edit) => edit.epoch)?.epoch;
      const mutations = edits.map(({ kind, id, data, version, epoch: of }) =>
        mutation({ kind, id, base_version: version && of !== epoch ? NO_VERSION : version, data }),
      );
      const results = await send(await Promise.all(mutations), epoch);
      results.filter(isTaken).forEach(({ id, version }) => made.set(id, version));
      return results;
    },

    /** Brings back what was deleted in that version: { kind, id, version }. A pull tells how it is. */
    async undelete({ kind, id, version }) {
      return send([await mutation({ op: "undelete", kind, id, base_version: version })], epoch);
    },

    /** Hands somebody, once, what cannot be merged. */
    show(result) {
      const said = JSON.stringify(result);
      if (!shown.has(said)) refused(result);
      shown.add(said);
    },

    /** For when all was pushed and nothing refused; RxDB's awaitInSync() waits for the first. */
    sayNothingIsLeft: () => post({ mutations: [], outbox_empty: true }),
  };
}

/** The change, with an id that follows from what it says, so that repeating it repeats the id too. */
async function mutation(change) {
  const said = { op: change.data ? "put" : "delete", ...change };
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(said)));
  const hex = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const mutation_id = hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, "$1-$2-4$3-8$4-$5");
  return { mutation_id, ...said };
}

/** Is it stored, in that version? */
export const isTaken = ({ status }) => ["created", "updated", "deleted", "unchanged"].includes(status);

/** Will the server not take it: as it is, from this person, or because the record is gone? */
export function isRefused({ op, status, record }) {
  return status === "invalid" || status === "forbidden" || (status === "conflict" && op !== "delete" && !record);
}

/** Did the server have it already, and others changed it since? The result has their copy. */
export const isOvertaken = ({ status, record, deleted }) => status === "unchanged" && Boolean(record || deleted);

/** What the phone says of a record: without what the server adds. */
export function dataOf(record) {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !SERVERS.includes(name)));
}

/** What both changed since `base`. Where they changed the same otherwise mine stays, and `lost` gets its name. */
export function merge(base, mine, theirs, lost = []) {
  const names = Object.keys({ ...theirs, ...mine });
  const merged = names.map((name) => [name, mergedValue(name, base[name], mine[name], theirs[name], lost)]);
  return JSON.parse(JSON.stringify(Object.fromEntries(merged))); // what somebody took out is undefined, and goes
}

const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function mergedValue(name, base, mine, theirs, lost) {
  if (isSame(theirs, base) || isSame(theirs, mine)) return mine;
  if (isSame(mine, base)) return theirs;
  if (Array.isArray(mine) && Array.isArray(theirs)) return mergedList(name, base ?? [], mine, theirs, lost);
  if (WITH_MEMBERS.includes(name) && mine && theirs) return merge(base ?? {}, mine, theirs, lost);
  lost.push(name);
  return mine;
}

/** The items of both, by what makes them distinct; what one took out is gone, unless the other changed it. */
function mergedList(name, base, mine, theirs, lost) {
  const keyOf = (item) => JSON.stringify(KEYS[name]?.map((member) => item[member] ?? null) ?? item);
  const [bases, ours, others] = [base, mine, theirs].map((items) => new Map(items.map((item) => [keyOf(item), item])));
  const merged = [...new Set([...others.keys(), ...ours.keys()])].flatMap((key) => {
    const [was, own, other] = [bases.get(key), ours.get(key), others.get(key)];
    if (own && other) return [KEYS[name] ? merge(was ?? {}, own, other, lost) : own];
    return isSame(own ?? other, was) ? [] : [own ?? other];
  });
  const time = (item) => Date.parse(item[KEYS[name][0]]);
  return IN_ORDER.includes(name) ? merged.sort((one, other) => time(one) - time(other)) : merged;
}
