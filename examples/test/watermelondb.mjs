import { Database } from "@nozbe/watermelondb/index.js";
import LokiJSAdapter from "@nozbe/watermelondb/adapters/lokijs/index.js";
import logger from "@nozbe/watermelondb/utils/common/logger/index.js";
import { createTable, schemaMigrations } from "@nozbe/watermelondb/Schema/migrations/index.js";
import Loki from "lokijs";
import { kinds, modelsOf, schemaOf, sync } from "../watermelondb.mjs";
import { complain, converge } from "./converge.mjs";
import { later } from "./later.mjs";

logger.default.silence();

const { SCENARIO } = process.env;
await (SCENARIO === "later" ? later : converge)(async (diary) => open(diary, kinds, 1, new Loki.LokiMemoryAdapter()));

/** A device whose app knows these kinds, on what is kept on the disk. */
async function open(diary, known, version, disk, dbName = crypto.randomUUID()) {
  const schema = schemaOf(known, version);
  const columnsOf = (name) => schema.tables[name].columnArray;
  const added = known.slice(kinds.length).map((name) => createTable({ name, columns: columnsOf(name) }));
  const migrations = schemaMigrations({ migrations: added.length ? [{ toVersion: version, steps: added }] : [] });
  const how = { useWebWorker: false, useIncrementalIndexedDB: true, _testLokiAdapter: disk };
  const options = { schema, migrations, dbName, ...how };
  const database = new Database({ adapter: new LokiJSAdapter.default(options), modelClasses: modelsOf(known) });
  const all = async () => (await Promise.all(known.map((kind) => database.get(kind).query().fetch()))).flat();
  const find = async (wanted) => (await all()).find(({ id }) => id === wanted);
  const data = (record) => JSON.parse(record._getRaw("data"));

  return {
    add: (kind, fields) =>
      database.write(async () => {
        const id = crypto.randomUUID();
        await database.get(kind).create((record) => {
          record._raw.id = id;
          record._setRaw("data", JSON.stringify(fields));
        });
        return id;
      }),
    edit: (id, fields) =>
      database.write(async () => {
        const record = await find(id);
        await record.update(() => record._setRaw("data", JSON.stringify({ ...data(record), ...fields })));
      }),
    remove: (id) => database.write(async () => (await find(id)).markAsDeleted()),
    sync: () => sync(database, diary).catch(complain),
    async copy() {
      const records = await all();
      const pairs = records.map((one) => [one.id, { version: one._getRaw("version"), data: data(one) }]);
      return Object.fromEntries(pairs);
    },
    /** The same device after an update of its app, which knows one kind more. */
    async update(kind) {
      await new Promise((saved) => database.adapter.underlyingAdapter._driver.loki.saveDatabase(saved));
      return open(diary, [...known, kind], version + 1, disk, dbName);
    },
  };
}
