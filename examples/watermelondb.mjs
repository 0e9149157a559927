// WatermelonDB synchronizes a table for each kind of record with a patient's diary. docs/sync.md is the protocol.
// It keeps no tombstones: a deletion that a restore lost comes back from devices that do, or from its last push.
import { appSchema, Model, Q, tableSchema } from "@nozbe/watermelondb/index.js";
import { hasUnsyncedChanges, synchronize } from "@nozbe/watermelondb/sync/index.js";
import { dataOf, isRefused, isTaken, merge } from "./diary.mjs";

const kinds = ["entry", "treatment", "treatment_event", "profile"];
const json = ["data", "base"].map((name) => ({ name, type: "string" })); // as it is here, as it came from the server
const columns = [...json, { name: "version", type: "number" }]; // the server's; 0 until it has the record
export const schema = appSchema({ version: 1, tables: kinds.map((name) => tableSchema({ name, columns })) });
export const modelClasses = kinds.map((table) => Object.assign(class extends Model {}, { table }));

/** What others did comes in, then what was done here goes out; `refused` gets what the server will not take. */
export async function sync(database, diary, refused = console.error) {
  const store = database.localStorage;
  let place; // up to which the diary was pulled
  let taken; // of the last push: what was changed here after that was changed on top of it

  async function pullChanges({ lastPulledAt }) {
    place = lastPulledAt ? await store.get(`place ${lastPulledAt}`) : undefined;
    const page = await diary.pullAll(place).catch(startAgain);
    const { edits = [], results = await diary.push(edits) } = (await store.get("sent")) ?? {}; // if no answer came, again
    taken = new Map(results.filter(isTaken).map((result) => [result.id, result]));
    const timestamp = (lastPulledAt ?? 0) + 1; // WatermelonDB wants a number; the place hangs on it
    ({ place } = page);
    await store.set(`place ${timestamp}`, place); // unused until the store has the number, after the changes
    const changes = Object.fromEntries(kinds.map((kind) => [kind, { created: [], updated: [], deleted: [] }]));
    for (const { kind, id, version, deleted, record } of page.changes) {
      const data = deleted || JSON.stringify(dataOf(record));
      changes[kind][deleted ? "deleted" : "updated"].push(deleted ? id : { id, version, data, base: data });
    }
    return { changes, timestamp };
  }

  async function startAgain(error) {
    if (!error.action) throw error;
    const known = kinds.map((kind) => database.get(kind).query(Q.where("version", Q.gt(0))).fetch());
    const { results = [] } = (await store.get("sent")) ?? {};
    const copy = (await Promise.all(known)).flat().map(({ id, table: kind, _raw: { version, base } }) => {
      return { kind, id, version, epoch: place.epoch, data: JSON.parse(base) };
    });
    const page = await diary.startAgain(error, [...copy, ...results.filter(isTaken)], refused);
    await store.set("sent", {});
    return page;
  }

  function conflictResolver(_table, local, theirs, resolved) {
    if (local._status === "synced") return resolved;
    const last = taken.get(local.id);
    const base = last?.version > local.version ? last.data : JSON.parse(local.base || "{}");
    const merged = merge(base, JSON.parse(local.data), JSON.parse(theirs.data));
    return { ...resolved, ...theirs, data: JSON.stringify(merged) };
  }

  async function pushChanges({ changes }) {
    const edit = (kind) => ({ id, version, data }) => ({ kind, id, version, epoch: place.epoch, data: JSON.parse(data) });
    const edits = Object.entries(changes).flatMap(([kind, { created, updated, deleted }]) => [
      ...[...created, ...updated].map(edit(kind)),
      ...deleted.map((id) => ({ kind, id })), // WatermelonDB tells only its id
    ]);
    await store.set("sent", { edits });
    const results = await diary.push(edits);
    await store.set("sent", { edits, results });
    results.filter(isRefused).forEach((result) => refused(result));
    const left = results.filter((one) => isRefused(one) || (one.op === "put" && one.status === "conflict"));
    const ids = (kind) => left.filter((one) => one.kind === kind).map(({ id }) => id); // merged and sent the next time
    return { experimentalRejectedIds: Object.fromEntries(kinds.map((kind) => [kind, ids(kind)])) };
  }

  await synchronize({ database, pullChanges, pushChanges, conflictResolver, sendCreatedAsUpdated: true });
  if (!(await hasUnsyncedChanges({ database }))) await diary.sayNothingIsLeft();
}
