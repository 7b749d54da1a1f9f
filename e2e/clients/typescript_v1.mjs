// @modelcontextprotocol/sdk, 1.x.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { run } from "./agent.mjs";

await run(Client, StreamableHTTPClientTransport, (client, params, options) => client.callTool(params, undefined, options));
