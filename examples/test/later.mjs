// A device of today beside a server of a later release: what it reads, and what becomes of it when it writes back.
import { openDiary } from "../diary.mjs";

const { DIARY, TOKENS, EDITED, KIND } = process.env;

export async function later(makeDevice) {
  setInterval(() => {}, 60_000); // Node ends when nothing else is to come, and a store may wait without a timer
  const refused = [];
  let device = await makeDevice(openDiary(DIARY, () => TOKENS, (result) => refused.push(result)));
  await device.sync();
  const before = Object.keys(await device.copy());
  await device.edit(EDITED, { mood: 9 });
  await device.sync();
  const unknown = Object.keys(await device.copy());
  device = (await device.update?.(KIND)) ?? device; // a store that keeps every kind needs none
  await device.sync();
  console.log(JSON.stringify({ before, unknown, after: await device.copy(), refused }));
  process.exit();
}
