//! TrustRelay: personal access tokens, and the MCP servers behind them.

fn main() {}
