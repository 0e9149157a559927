// RxDB replicates a collection of records with a patient's diary. docs/sync.md is the protocol.
import { replicateRxCollection } from "rxdb/plugins/replication";
import { deepEqual } from "rxdb/plugins/utils";
import { debounceTime } from "rxjs";
import { dataOf, isOvertaken, isRefused, merge, mutation } from "./diary.mjs";

const properties = { id: { type: "string", maxLength: 36 }, kind: { type: "string" } };
properties.version = { type: "integer" }; // the server's; 0 until it has the record
properties.data = { type: "object" };
export const schema = { version: 0, primaryKey: "id", type: "object", properties, required: Object.keys(properties) };

const document = ({ id, kind, version = 0, deleted = false, record = {} }) => {
  return { id, kind, version, data: dataOf(record), _deleted: deleted };
};

/** For a collection of records: the `conflictHandler` to create it with, and `start(collection)` to replicate it. */
export function adapt(diary, refused = console.error) {
  const running = {}; // `current` is the replication
  const overtaken = new Set(); // what the server had taken from here before others changed it

  const conflictHandler = {
    isEqual: (a, b) => a.version === b.version && a._deleted === b._deleted && deepEqual(a.data, b.data),
    resolve({ newDocumentState: mine, assumedMasterState: base, realMasterState: theirs }) {
      if (overtaken.delete(mine.id)) return theirs;
      if (mine._deleted || theirs._deleted) return { ...theirs, _deleted: true }; // what is deleted stays deleted
      return { ...theirs, data: merge(base?.data ?? {}, mine.data, theirs.data) };
    },
  };

  async function pull(checkpoint, limit) {
    const { changes, cursor } = await diary.pull(checkpoint?.cursor, limit).catch(anew);
    return { documents: changes.map(document), checkpoint: { cursor } };
  }

  async function push(rows) {
    const mutations = rows.map(({ newDocumentState: { id, kind, data, _deleted }, assumedMasterState: base }) =>
      mutation(kind, id, base?.version ?? 0, _deleted ? undefined : data),
    );
    const results = await diary.push(await Promise.all(mutations));
    results.filter(isRefused).forEach((result) => refused(result));
    results.filter(isOvertaken).forEach(({ id }) => overtaken.add(id));
    const compared = results.map((result, at) => ({ ...result, wanted: rows[at].newDocumentState }));
    const differs = ({ status, version, wanted }) => status === "conflict" && (version || !wanted._deleted);
    const conflicts = compared.filter((result) => isOvertaken(result) || differs(result));
    return conflicts.map(({ wanted, ...result }) => document({ kind: wanted.kind, ...result }));
  }

  function start(collection, options = {}) {
    const handlers = { pull: { handler: pull, batchSize: 500 }, push: { handler: push, batchSize: 100 } };
    const name = { collection, replicationIdentifier: "diary" };
    const replication = replicateRxCollection({ ...name, ...handlers, ...options });
    replication.sent$.pipe(debounceTime(10)).subscribe(() => replication.reSync()); // to learn the new versions
    return Object.assign(running, { options, current: replication });
  }

  function anew(error) {
    if (error.action) startAgain(running.current, error.action);
    throw error;
  }

  /** Without what RxDB remembers of the replication; what was changed here since is pushed, the rest taken over. */
  async function startAgain(replication, action) {
    await replication.pause();
    if (action === "reoffer") await replication.collection.find().incrementalModify((same) => same); // all was changed
    await replication.remove();
    start(replication.collection, running.options);
  }

  return { conflictHandler, start };
}
