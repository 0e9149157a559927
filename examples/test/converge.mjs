// Two devices of one patient, mostly offline, and what must have become of their edits in the end.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { dataOf, openDiary } from "../diary.mjs";

const { DIARY, TOKENS } = process.env;
let lines; // from the test around this one

/** Has the test around this one do something to the server. */
async function ask(what) {
  console.log(what);
  assert.equal((await lines.next()).value, what);
}

/** A diary behind a network that can be cut, and that can lose the answer to a push. */
function connect(token, refused) {
  const network = { cut: false, pushed: [] };
  network.loseAnswer = () => new Promise((lost) => (network.lost = lost)); // of the next push, and all that follows
  async function fetch(url, asked) {
    if (network.cut) throw new TypeError("offline");
    const answer = await globalThis.fetch(url, asked);
    if (!asked.body) return answer;
    network.pushed.push(JSON.parse(asked.body).mutations.map((one) => one.mutation_id));
    if (!network.lost) return answer;
    network.lost();
    Object.assign(network, { cut: true, lost: undefined });
    throw new TypeError("the answer is lost");
  }
  return { diary: openDiary(DIARY, () => token, refused, fetch), network };
}

/** Tells of an error, unless it is the network's. */
export const complain = ({ message }) => ["offline", "the answer is lost"].includes(message) || console.error(message);

const at = { occurred_at: "2026-03-28T08:00:00+01:00", time_zone: "Europe/Berlin" };
const regimens = [{ valid_from: at.occurred_at, time_zone: at.time_zone, schedule: { type: "prn" } }];
const plan = { ...at, category: "otc_medication", name: "Ibuprofen 400 mg", regimens };

/** What the server has, by id. */
async function pullAlive() {
  const { changes } = await openDiary(DIARY, () => TOKENS.split(" ")[0]).pullAll();
  const alive = changes.filter(({ deleted }) => !deleted);
  return Object.fromEntries(alive.map(({ id, version, record }) => [id, { version, data: dataOf(record) }]));
}

/** `makeDevice(diary)` → {add(kind, data), edit(id, fields), remove(id), sync(), copy()}, the copy by id. */
export async function converge(makeDevice) {
  const input = createInterface({ input: process.stdin }).on("close", () => process.exit(1)); // the test is gone
  lines = input[Symbol.asyncIterator]();
  const [refused, networks, devices] = [[], [], []];
  for (const token of TOKENS.split(" ")) {
    const { diary, network } = connect(token, (result) => refused.push(result));
    networks.push(network);
    devices.push(await makeDevice(diary));
  }
  const [phone, tablet] = devices;
  const online = (...which) => networks.forEach((network, place) => (network.cut = !which.includes(devices[place])));
  const add = (device, fields) => device.add("entry", { ...at, mood: 5, ...fields });

  /** The phone comes online, then the tablet; what both hold in the end, which is what the server has. */
  async function meet() {
    online(phone);
    await phone.sync();
    online(phone, tablet);
    let [server, copies] = [undefined, []];
    for (let round = 0; round < 50 && !(server && copies.every((copy) => isDeepStrictEqual(copy, server))); round++) {
      await setTimeout(20);
      for (const device of [tablet, phone]) await device.sync();
      server = await pullAlive();
      copies = [await phone.copy(), await tablet.copy()];
    }
    for (const copy of copies) assert.deepEqual(copy, server);
    assert.deepEqual(refused.filter(({ lost, deleted }) => !lost && !deleted), []);
    return server;
  }

  online();
  const [both, same, gone, kept] = [await add(phone), await add(phone), await add(phone), await add(phone)];
  const medicine = await phone.add("treatment", plan);
  await phone.add("treatment_event", { ...at, treatment_id: medicine, status: "taken" });
  await phone.remove(await add(phone)); // before the server ever heard of it
  assert.equal(Object.keys(await meet()).length, 6);

  online(); // both edit other fields of one record, the same field of another, and one deletes what the other edits
  await phone.edit(both, { mood: 3 });
  await tablet.edit(both, { note: "after the walk" });
  await phone.edit(same, { mood: 1 });
  await tablet.edit(same, { mood: 9 });
  await phone.edit(gone, { mood: 5 });
  await tablet.remove(gone);
  await phone.remove(kept);
  const pauses = [{ from: "2026-04-01T00:00:00+02:00", to: "2026-04-03T00:00:00+02:00" }];
  pauses.push({ from: "2026-04-05T00:00:00+02:00", to: "2026-04-06T00:00:00+02:00" });
  await phone.edit(medicine, { pauses: pauses.slice(1) });
  await tablet.edit(medicine, { pauses: pauses.slice(0, 1) });
  const site = (region, value) => ({ region, scores: [{ measure: "now", scale: "nrs_0_10", value }] });
  await phone.edit(both, { sites: [site("lower_back_left", 6)] });
  await tablet.edit(both, { sites: [site("neck_back_right", 3)] });
  const later = await add(tablet);
  let server = await meet();
  online();
  assert.deepEqual([server[both].data.mood, server[both].data.note], [3, "after the walk"]);
  assert.equal(server[same].data.mood, 9); // who comes last; what the other said is shown to somebody
  assert.ok(refused.some(({ id, lost, record }) => id === same && lost.includes("mood") && record.mood === 1));
  assert.deepEqual(server[medicine].data.pauses, pauses);
  assert.deepEqual(server[both].data.sites.map(({ region }) => region).sort(), ["lower_back_left", "neck_back_right"]);
  assert.deepEqual([gone in server, kept in server, later in server], [false, false, true]);

  const lost = await add(phone, { mood: 2 }); // pushed, but the answer is lost; another device goes on from there
  await phone.edit(later, { mood: 2 });
  const noAnswer = networks[0].loseAnswer();
  online(phone);
  phone.sync(); // RxDB goes on until it is answered, WatermelonDB gives up
  await noAnswer;
  const unanswered = networks[0].pushed.at(-1);
  online(tablet);
  await tablet.sync();
  await tablet.edit(lost, { mood: 7 });
  await tablet.sync();
  const before = networks[0].pushed.length;
  server = await meet();
  assert.deepEqual(networks[0].pushed[before], unanswered);
  assert.deepEqual([server[lost].version, server[lost].data.mood], [2, 7]);
  assert.deepEqual([server[later].version, server[later].data.mood], [2, 2]);

  await ask("back up");
  online();
  const [since, doomed] = [await add(phone), await add(phone)];
  await phone.edit(same, { mood: 4 });
  await tablet.edit(both, { mood: 8 });
  await meet();
  online(phone); // the tablet does not hear of this, and offers what is older, later
  await phone.edit(same, { mood: 6 });
  await phone.remove(doomed);
  await phone.sync();
  await ask("restore");
  await phone.edit(same, { pattern: "constant" });
  server = await meet();
  assert.deepEqual([since in server, doomed in server, server[both].data.mood], [true, false, 8]);
  assert.deepEqual([server[same].data.mood, server[same].data.pattern], [6, "constant"]);

  refused.length = 0;
  await add(phone, { mood: 99 });
  await add(phone, { note: "half an emoji \ud83d" });
  await add(phone, { note: "x".repeat(600_000) }); // more than any push may hold
  const good = await add(phone);
  await phone.sync();
  await tablet.sync();
  const ends = refused.map(({ status, errors }) => [status, errors[0]?.pointer.split("/data")[1] ?? ""]);
  for (const end of ["/mood", "/note", ""]) assert.ok(ends.some((one) => isDeepStrictEqual(one, ["invalid", end])));
  assert.ok(good in (await tablet.copy()));
  await ask("done");
  process.exit();
}
