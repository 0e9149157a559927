// RxDB replicates a collection of records with a patient's diary. docs/sync.md is the protocol.
import { normalizeMangoQuery, prepareQuery } from "rxdb/plugins/core";
import { replicateRxCollection } from "rxdb/plugins/replication";
import { deepEqual } from "rxdb/plugins/utils";
import { debounceTime } from "rxjs";
import { dataOf, isOvertaken, merge } from "./diary.mjs";

const id = { type: "string", maxLength: 36 };
const servers = { version: { type: "integer", default: 0 }, epoch: { type: "string", default: "" } };
const properties = { id, kind: { type: "string" }, data: { type: "object" }, ...servers };
export const schema = { version: 0, primaryKey: "id", type: "object", properties, required: ["id", "kind", "data"] };

const document = ({ id, kind, version, epoch, deleted = false, reason, record = {} }) => {
  return { id, kind, version: reason === "withdrawn" ? 0 : version, epoch, data: dataOf(record), _deleted: deleted };
};
const said = ({ id, kind, data }) => ({ id, kind, data });
const dataIn = ({ _deleted, data }) => (_deleted ? undefined : data);

/** For a collection of records: the `conflictHandler` to create it with, and `start(collection)` to replicate it. */
export function adapt(diary) {
  const overtaken = new Set(); // what others changed after the server had taken it from here
  let replication;

  function resolve({ newDocumentState: mine, assumedMasterState: base, realMasterState: theirs }) {
    if (overtaken.delete(mine.id)) return theirs;
    if (theirs._deleted && !mine._deleted) diary.show({ status: "conflict", ...said(mine), deleted: true });
    if (mine._deleted || theirs._deleted) return { ...theirs, _deleted: true }; // what is deleted stays deleted
    const lost = [];
    const data = merge(base?.data ?? {}, mine.data, theirs.data, lost);
    if (lost.length) diary.show({ status: "conflict", ...said(mine), record: theirs.data, lost });
    return { ...theirs, data };
  }

  async function pull(checkpoint, limit) {
    const { changes, place } = await diary.pull(checkpoint, limit).catch(startAgain);
    return { documents: changes.map(document), checkpoint: place };
  }

  /** What RxDB remembers beside the documents is what the server had, tombstones too. */
  async function startAgain(error) {
    if (!error.action) throw error;
    const { metaInstance: meta } = replication;
    const query = normalizeMangoQuery(meta.schema, { selector: { isCheckpoint: "0", _deleted: false } });
    const { documents } = await meta.query(prepareQuery(meta.schema, query));
    const copy = documents.map(({ docData }) => ({ ...docData, data: dataIn(docData) }));
    return diary.startAgain(error, copy.filter(({ version, data }) => version || data));
  }

  async function push(rows) {
    const edits = rows.map(({ newDocumentState: mine, assumedMasterState: { version = 0, epoch } = {} }) => {
      return { ...mine, data: dataIn(mine), version, epoch };
    });
    // Again at once, since RxDB does not pull while a push fails.
    const results = await diary.push(edits).catch((error) => startAgain(error).then(() => diary.push(edits)));
    results.filter(isOvertaken).forEach(({ id }) => overtaken.add(id));
    return results.filter(({ record, deleted }) => record || deleted).map(document);
  }

  function start(collection, options = {}) {
    const handlers = { pull: { handler: pull, batchSize: 500 }, push: { handler: push, batchSize: 100 } };
    replication = replicateRxCollection({ collection, replicationIdentifier: "diary", ...handlers, ...options });
    replication.sent$.pipe(debounceTime(10)).subscribe(() => replication.reSync()); // to learn the new versions
    return replication;
  }

  return { conflictHandler: { isEqual: deepEqual, resolve }, start };
}
