// WatermelonDB synchronizes a table for each kind of record with a patient's diary. docs/sync.md is the protocol.
import { appSchema, Model, tableSchema } from "@nozbe/watermelondb/index.js";
import { hasUnsyncedChanges, synchronize } from "@nozbe/watermelondb/sync/index.js";
import { dataOf, isRefused, merge, mutation } from "./diary.mjs";

const kinds = ["entry", "treatment", "treatment_event", "profile"];
const json = ["data", "base"].map((name) => ({ name, type: "string" })); // as it is here, as it came from the server
const columns = [...json, { name: "version", type: "number" }]; // the server's; 0 until it has the record
export const schema = appSchema({ version: 1, tables: kinds.map((name) => tableSchema({ name, columns })) });
export const modelClasses = kinds.map((table) => Object.assign(class extends Model {}, { table }));

/** What others did comes in, then what was done here goes out; `refused` gets what the server will not take. */
export async function sync(database, diary, refused = console.error) {
  const store = database.localStorage;
  const taken = new Map(); // the last push by id: what came after was changed on top of it

  async function pullChanges({ lastPulledAt }) {
    const { mutations = [], results } = (await store.get("sent")) ?? {};
    for (const [at, { status }] of (results ?? (await diary.push(mutations))).entries()) // once more if no answer came
      if (status !== "conflict" && !isRefused({ status })) taken.set(mutations[at].id, mutations[at]);
    const timestamp = (lastPulledAt ?? 0) + 1; // WatermelonDB wants a number; the cursor hangs on it
    const cursor = lastPulledAt && (await store.get(`cursor ${lastPulledAt}`));
    const [page, experimentalStrategy] = await diary.pullAll(cursor).then((page) => [page, "incremental"], pullAnew);
    await store.set(`cursor ${timestamp}`, page.cursor); // unused until the store has the number, after the changes
    const tables = kinds.map((kind) => [kind, { created: [], updated: [], deleted: [] }]);
    const changes = Object.fromEntries(tables);
    for (const { kind, id, version, deleted, record } of page.changes) {
      const data = deleted || JSON.stringify(dataOf(record));
      changes[kind][deleted ? "deleted" : "updated"].push(deleted ? id : { id, version, data, base: data });
    }
    return { changes, timestamp, experimentalStrategy };
  }

  async function pullAnew(error) {
    if (error.action === "reload") return [await diary.pullAll(), "replacement"];
    if (error.action !== "reoffer") throw error;
    const all = (await Promise.all(kinds.map((kind) => database.get(kind).query().fetch()))).flat();
    const asNew = (record) => [["version", 0], ["base", "{}"]].forEach((set) => record._setRaw(...set));
    await database.write(() => database.batch(all.map((record) => record.prepareUpdate(asNew)))); // so all is pushed
    return [await diary.pullAll(), "incremental"];
  }

  function conflictResolver(_table, local, theirs, resolved) {
    if (local._status === "synced") return resolved;
    const last = taken.get(local.id);
    const base = last?.base_version >= local.version ? last.data : JSON.parse(local.base || "{}");
    const merged = merge(base, JSON.parse(local.data), JSON.parse(theirs.data));
    return { ...resolved, ...theirs, data: JSON.stringify(merged) };
  }

  async function pushChanges({ changes }) {
    const said = ([kind, { created, updated, deleted }]) => [
      ...[...created, ...updated].map(({ id, version, data }) => mutation(kind, id, version, JSON.parse(data))),
      ...deleted.map((id) => mutation(kind, id)), // WatermelonDB tells only its id
    ];
    const mutations = await Promise.all(Object.entries(changes).flatMap(said));
    await store.set("sent", { mutations });
    const results = await diary.push(mutations);
    await store.set("sent", { mutations, results });
    results.filter(isRefused).forEach((result) => refused(result));
    const failed = ({ op }, at) => isRefused(results[at]) || (op === "put" && results[at].status === "conflict");
    const left = mutations.filter(failed); // the next synchronization merges and sends them again
    const ids = (kind) => left.filter((one) => one.kind === kind).map(({ id }) => id);
    return { experimentalRejectedIds: Object.fromEntries(kinds.map((kind) => [kind, ids(kind)])) };
  }

  await synchronize({ database, pullChanges, pushChanges, conflictResolver, sendCreatedAsUpdated: true });
  if (!(await hasUnsyncedChanges({ database }))) await diary.sayNothingIsLeft();
}
