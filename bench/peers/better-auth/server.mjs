// A server of Better Auth with its API-key plugin on SQLite that does nothing but verify the key of each request.
//
//   node server.mjs FOLDER database|memory
//
// In an empty FOLDER it makes the database and a key, and writes the key to FOLDER/key. `database`: keys are looked up in SQLite, as is
// the plugin's default. `memory`: keys are held in a secondary storage alone, a map in this process.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { apiKey } from "@better-auth/api-key";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import Database from "better-sqlite3";

const [folder, storage] = process.argv.slice(2);

const database = new Database(join(folder, "data.sqlite"));
database.pragma("journal_mode = WAL");
database.pragma("synchronous = NORMAL");

const held = new Map();
const memory = {
  get: (key) => held.get(key) ?? null,
  set: (key, value) => void held.set(key, value),
  delete: (key) => void held.delete(key),
};

const keys = {
  rateLimit: { enabled: false },
  // The answer does not wait until the time of the last request is written.
  deferUpdates: true,
  ...(storage === "memory" && { storage: "secondary-storage", fallbackToDatabase: false }),
};
const options = {
  baseURL: "http://127.0.0.1",
  secret: randomBytes(32).toString("base64"),
  database,
  emailAndPassword: { enabled: true },
  plugins: [apiKey(keys)],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: "error" },
  advanced: { backgroundTasks: { handler: (task) => void task.catch((error) => console.error(error)) } },
  ...(storage === "memory" && { secondaryStorage: memory }),
};
// The tables first: the server that is measured finds them in place.
await (await getMigrations(options)).runMigrations();
const auth = betterAuth(options);

const account = { email: "bench@example.org", password: "correct horse battery staple", name: "bench" };
const { user } = await auth.api.signUpEmail({ body: account });
const { key } = await auth.api.createApiKey({ body: { name: "bench", userId: user.id } });
writeFileSync(join(folder, "key"), key);

const server = createServer(async (request, response) => {
  const answer = await auth.api.verifyApiKey({ body: { key: request.headers["x-api-key"] ?? "" } });
  response.writeHead(answer.valid ? 200 : 401, { "content-type": "application/json" });
  response.end(JSON.stringify(answer));
});
server.keepAliveTimeout = 0;
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
