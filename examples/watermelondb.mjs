// WatermelonDB synchronizes a table for each kind of record with a patient's diary. docs/sync.md is the protocol.
// It keeps no tombstones: after a restore it offers again only the deletions of its last push.
import { appSchema, Model, Q, tableSchema } from "@nozbe/watermelondb/index.js";
import { hasUnsyncedChanges, synchronize } from "@nozbe/watermelondb/sync/index.js";
import { dataOf, isRefused, isTaken, merge } from "./diary.mjs";

export const kinds = ["entry", "treatment", "treatment_event", "profile"];
const texts = ["data", "base", "epoch"].map((name) => ({ name, type: "string" })); // base: data as the server has it
const columns = [...texts, { name: "version", type: "number" }]; // in its epoch; 0 until the server has the record
const tableOf = (name) => tableSchema({ name, columns });
/** The schema and the models of an app that knows these kinds; one that knows more has a higher version. */
export const schemaOf = (kinds, version) => appSchema({ version, tables: kinds.map(tableOf) });
export const modelsOf = (kinds) => kinds.map((table) => Object.assign(class extends Model {}, { table }));
export const schema = schemaOf(kinds, 1);
export const modelClasses = modelsOf(kinds);

/** What others did comes in, then what was done here goes out. */
export async function sync(database, diary) {
  const store = database.localStorage;
  const kinds = Object.keys(database.schema.tables); // others are passed over, until the app knows them
  const placeOf = (pulledAt) => `place ${database.schema.version} ${pulledAt}`; // an app that knows more begins anew
  let taken; // of the last push, by id: what was changed here after that was changed on top of it

  async function pullChanges({ lastPulledAt }) {
    const timestamp = (lastPulledAt ?? 0) + 1; // WatermelonDB wants a number; the place hangs on it
    const page = await diary.pullAll(await store.get(placeOf(lastPulledAt))).catch(startAgain);
    await store.set(placeOf(timestamp), page.place); // unused until the store has the number, after the changes
    const { edits = [], results = await diary.push(edits) } = (await store.get("sent")) ?? {}; // if no answer came, again
    taken = new Map(results.filter(isTaken).map((result) => [result.id, result]));
    const changes = Object.fromEntries(kinds.map((kind) => [kind, { created: [], updated: [], deleted: [] }]));
    const known = page.changes.filter(({ kind }) => kinds.includes(kind));
    for (const { kind, id } of known.filter(({ deleted }) => deleted)) await showEdited(kind, id);
    for (const { kind, id, version, epoch, deleted, record } of known) {
      const data = deleted || JSON.stringify(dataOf(record));
      changes[kind][deleted ? "deleted" : "updated"].push(deleted ? id : { id, version, epoch, data, base: data });
    }
    return { changes, timestamp };
  }

  /** An edit of what was deleted elsewhere, which WatermelonDB drops. */
  async function showEdited(kind, id) {
    const [held] = await database.get(kind).query(Q.where("id", id)).fetch();
    if (held && held.syncStatus !== "synced" && !taken.has(id)) {
      diary.show({ status: "conflict", kind, id, data: JSON.parse(held._raw.data), deleted: true });
    }
  }

  async function startAgain(error) {
    if (!error.action) throw error;
    const held = kinds.map((kind) => database.get(kind).query(Q.where("version", Q.gt(0))).fetch());
    const raws = (await Promise.all(held)).flat().map(({ table: kind, _raw }) => ({ ..._raw, kind }));
    const copy = raws.map((raw) => ({ ...raw, data: JSON.parse(raw.base) }));
    const { results = [] } = (await store.get("sent")) ?? {};
    const page = await diary.startAgain(error, [...copy, ...results.filter(isTaken)]);
    await store.set("sent", {});
    return page;
  }

  function conflictResolver(_table, local, theirs, resolved) {
    if (local._status === "synced") return resolved;
    const last = taken.get(local.id);
    const base = last?.version > local.version ? last.data : JSON.parse(local.base || "{}");
    const [mine, record, lost] = [JSON.parse(local.data), JSON.parse(theirs.data), []];
    const data = merge(base, mine, record, lost);
    if (lost.length) diary.show({ status: "conflict", id: local.id, data: mine, record, lost });
    return { ...resolved, ...theirs, data: JSON.stringify(data) };
  }

  async function pushChanges({ changes }) {
    const edits = Object.entries(changes).flatMap(([kind, { created, updated, deleted }]) => [
      ...[...created, ...updated].map((raw) => ({ ...raw, kind, data: JSON.parse(raw.data) })),
      ...deleted.map((id) => ({ kind, id })), // WatermelonDB tells only its id
    ]);
    await store.set("sent", { edits });
    const results = await diary.push(edits);
    await store.set("sent", { results });
    const left = results.filter((one) => isRefused(one) || (one.op === "put" && one.status === "conflict"));
    const ids = left.map(({ id }) => id); // these are merged and sent the next time
    return { experimentalRejectedIds: Object.fromEntries(kinds.map((kind) => [kind, ids])) };
  }

  await synchronize({ database, pullChanges, pushChanges, conflictResolver, sendCreatedAsUpdated: true });
  if (!(await hasUnsyncedChanges({ database }))) await diary.sayNothingIsLeft();
}
