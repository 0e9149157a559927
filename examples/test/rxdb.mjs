import { createRxDatabase } from "rxdb";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { adapt, schema } from "../rxdb.mjs";
import { complain, converge } from "./converge.mjs";
import { later } from "./later.mjs";

const { SCENARIO } = process.env;
await (SCENARIO === "later" ? later : converge)(async (diary) => {
  const name = `diary${crypto.randomUUID()}`;
  const database = await createRxDatabase({ name, storage: getRxStorageMemory(), multiInstance: false });
  const { conflictHandler, start } = adapt(diary);
  const { records } = await database.addCollections({ records: { schema, conflictHandler } });
  const find = (id) => records.findOne(id).exec();
  const replication = start(records, { retryTime: 20 });
  replication.error$.subscribe((error) => (error.parameters?.errors ?? [error]).forEach(complain)); // else it is silent

  return {
    async add(kind, data) {
      return (await records.insert({ id: crypto.randomUUID(), kind, data })).id;
    },
    async edit(id, fields) {
      await (await find(id)).incrementalModify((doc) => ({ ...doc, data: { ...doc.data, ...fields } }));
    },
    async remove(id) {
      await (await find(id)).incrementalRemove();
    },
    async sync() {
      replication.reSync();
      await replication.awaitInSync();
    },
    async copy() {
      const all = await records.find().exec();
      return Object.fromEntries(all.map((doc) => doc.toJSON()).map(({ id, version, data }) => [id, { version, data }]));
    },
  };
});
