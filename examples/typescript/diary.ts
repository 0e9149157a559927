// A patient logs pain and the dose taken against it and shares the diary; a clinician reads it.
import createClient from "openapi-fetch";
import type { EntryIn, KnownItem, paths, Problem, TimelinePage, TreatmentEventIn, TreatmentIn } from "./schema.js";

const API = process.env["API"] ?? "http://127.0.0.1:8000";
const PASSWORD = "demo-demo-demo-demo";

const patient = await signIn("patient@example.org");
const clinician = await signIn("clinician@example.org");
const diary = { path: { patient_id: patient.user.patient_id ?? fail("This account keeps no diary.") } };

// What is logged has an id of its own, chosen here: sending it again after a lost answer stores it once.
const now = { occurred_at: instant(new Date()), time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone };
const plan: TreatmentIn = {
  id: crypto.randomUUID(),
  ...now,
  category: "otc_medication",
  name: "Ibuprofen 400 mg",
  regimens: [{ valid_from: now.occurred_at, time_zone: now.time_zone, schedule: { type: "prn", max_doses_24h: 3 } }],
};
const entry: EntryIn = {
  id: crypto.randomUUID(),
  ...now,
  sites: [{ region: "lower_back_left", scores: [{ measure: "now", scale: "nrs_0_10", value: 6 }] }],
};
const dose: TreatmentEventIn = {
  id: crypto.randomUUID(),
  ...now,
  treatment_id: plan.id,
  status: "taken",
  amount: { value: 400, unit: "mg" },
  entry_id: entry.id,
};
await patient.api.POST("/v1/patients/{patient_id}/treatments", { params: diary, body: plan }).then(got);
await patient.api.POST("/v1/patients/{patient_id}/entries", { params: diary, body: entry }).then(got);
await patient.api.POST("/v1/patients/{patient_id}/treatment-events", { params: diary, body: dose }).then(got);

// Correcting needs the ETag of what was read, here that of the first version.
await patient.api
  .PATCH("/v1/patients/{patient_id}/entries/{entry_id}", {
    params: { path: { ...diary.path, entry_id: entry.id }, header: { "If-Match": '"1"' } },
    body: { mood: 4 },
  })
  .then(got);

// The patient tells the code, the clinician enters it, the patient sees by whom and confirms.
const shared = await patient.api
  .POST("/v1/patients/{patient_id}/share-codes", {
    params: { ...diary, header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { scopes: ["entries:read", "treatments:read"], purpose: "Appointment", days: 90 },
  })
  .then(got);
const pending = await clinician.api.POST("/v1/share-codes/redeem", { body: { code: shared.code } }).then(got);
const path = { ...diary.path, grant_id: pending.id };
const grant = await patient.api
  .POST("/v1/patients/{patient_id}/grants/{grant_id}/confirm", { params: { path } })
  .then(got);
console.log(grant.words.join("\n"));

// What the clinician sees of today, page by page.
let cursor: string | null = null;
do {
  const query = { from: now.occurred_at.slice(0, 10), ...(cursor && { cursor }) };
  const page: TimelinePage = await clinician.api
    .GET("/v1/patients/{patient_id}/timeline", { params: { ...diary, query } })
    .then(got);
  page.items.filter(isKnown).map(told).forEach((line) => console.log(line));
  cursor = page.next_cursor;
} while (cursor);

/** Kinds that are not known here are still to come: this app passes over them. */
function isKnown(item: TimelinePage["items"][number]): item is KnownItem {
  return ["entry", "treatment", "treatment_event", "treatment_change", "profile"].includes(item.kind);
}

/** One line about an item; `kind` says what it is. */
function told(item: KnownItem): string {
  switch (item.kind) {
    case "entry":
      return `${item.local_date} pain: ${item.sites?.map((site) => site.region).join(", ")}`;
    case "treatment_event":
      return `${item.local_date} ${item.status}: ${item.treatment_name} ${item.amount?.value ?? ""}`;
    default:
      return `${item.local_date} ${item.kind}`;
  }
}

/** A client that sends this person's access token, and who that is. */
async function signIn(email: string) {
  const api = createClient<paths>({ baseUrl: API });
  const body = { email, password: PASSWORD, device_name: "diary.ts" };
  const tokens = await api.POST("/v1/auth/sessions", { body }).then(got);
  api.use({
    onRequest({ request }) {
      request.headers.set("Authorization", `Bearer ${tokens.access_token}`);
      return request;
    },
  });
  return { api, user: tokens.user };
}

/** What was answered; a problem ends the program. */
function got<T>(answer: { data?: T; error?: Problem }): T {
  return answer.data ?? fail(JSON.stringify(answer.error));
}

/** An instant with the offset of this place: the offset decides on which day of the diary it lies. */
function instant(at: Date): string {
  const ahead = -at.getTimezoneOffset();
  const wall = new Date(at.getTime() + ahead * 60_000).toISOString().slice(0, 19);
  const offset = new Date(Math.abs(ahead) * 60_000).toISOString().slice(11, 16);
  return `${wall}${ahead < 0 ? "-" : "+"}${offset}`;
}

function fail(why: string): never {
  throw new Error(why);
}
