import { Database } from "@nozbe/watermelondb/index.js";
import LokiJSAdapter from "@nozbe/watermelondb/adapters/lokijs/index.js";
import logger from "@nozbe/watermelondb/utils/common/logger/index.js";
import { modelClasses, schema, sync } from "../watermelondb.mjs";
import { complain, converge } from "./converge.mjs";

logger.default.silence();

await converge(async (diary) => {
  const options = { schema, useWebWorker: false, useIncrementalIndexedDB: true, dbName: crypto.randomUUID() };
  const database = new Database({ adapter: new LokiJSAdapter.default(options), modelClasses });
  const tables = schema.tables;
  const all = async () =>
    (await Promise.all(Object.keys(tables).map((kind) => database.get(kind).query().fetch()))).flat();
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
  };
});
