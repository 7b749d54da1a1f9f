// An agent on either generation of the official TypeScript SDK. One JSON command a line comes in, one answer a line goes
// out: {"ok": …} or {"error": "…"}, and {"progress": n} while a call runs.
import { createInterface } from "node:readline";

const say = (message) => console.log(JSON.stringify(message));
const why = (error) => [error?.name, error?.code, error?.message ?? String(error), error?.cause?.message].filter(Boolean).join(" ");

export async function run(Client, StreamableHTTPClientTransport, call) {
  const client = new Client({ name: "trustrelay-e2e", version: "1.0.0" });
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), {
    requestInit: { headers: { Authorization: `Bearer ${process.env.TRUSTRELAY_TOKEN}` } },
  });
  try {
    await client.connect(transport);
    say({ ok: "connected" });
  } catch (error) {
    say({ error: why(error) });
    process.exit(1);
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      if (command.do === "list") {
        const { tools } = await client.listTools();
        say({ ok: tools.map((tool) => tool.name) });
      } else {
        const options = { onprogress: ({ progress }) => say({ progress }) };
        const result = await call(client, { name: command.tool, arguments: command.arguments }, options);
        const text = result.content.map((part) => part.text ?? part.type).join("\n");
        say(result.isError ? { error: text } : { ok: text });
      }
    } catch (error) {
      say({ error: why(error) });
    }
  }
}
