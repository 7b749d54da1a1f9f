// @modelcontextprotocol/client, 2.x.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { run } from "./agent.mjs";

await run(Client, StreamableHTTPClientTransport, (client, params, options) => client.callTool(params, options));
