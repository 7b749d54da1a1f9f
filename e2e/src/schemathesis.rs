//! Schemathesis: reads the OpenAPI document of the running program, makes up requests that are good
//! by it and requests that are not, and holds every answer against it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::raw_output_within;
use crate::server::Server;
use crate::tools;

/// What every answer has to pass. Three of its checks are left out. `positive_data_acceptance`: a
/// schema cannot say that an account is there, or that a cursor was the `next` of an answer.
/// `use_after_free`: a revoked token can still be read, by its owner, with what it has called.
/// `object_level_authorization`: it needs two people, and the stories of the API's authorization
/// have them.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    unsupported_method,allow_header_conformance,ignored_auth,ensure_resource_availability";

/// A run takes about 40 seconds by itself; on a busy machine it may take some times as long.
const LIMIT: Duration = Duration::from_secs(300);

/// What a run asks with.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// A token.
    Token(&'a str),
    /// A session: what a browser has in its cookie.
    Session(&'a str),
}

impl Credential<'_> {
    /// The file in which Schemathesis looks for it, by the names of the document's security
    /// schemes. A header on the command line would not do: what it makes up for the scheme would
    /// take that header's place.
    fn file(self) -> String {
        let (scheme, kind, value) = match self {
            Self::Token(token) => ("token", "bearer", token),
            Self::Session(id) => ("session", "api_key", id),
        };
        format!("[auth.openapi.{scheme}]\n{kind} = \"{value}\"\n")
    }
}

/// Of which operations a run goes by, and in which way.
#[derive(Debug, Clone, Copy)]
pub enum Operations<'a> {
    /// All but these, each by itself.
    AllBut(&'a [&'a str]),
    /// All but these, each by itself and one with what another one answered.
    ChainedAllBut(&'a [&'a str]),
    /// Only these, each by itself and one with what another one answered.
    Chained(&'a [&'a str]),
}

impl Operations<'_> {
    fn arguments(self) -> (&'static str, &'static str, Vec<String>) {
        const ALONE: &str = "examples,coverage,fuzzing";
        const CHAINED: &str = "examples,coverage,fuzzing,stateful";
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        match self {
            Self::AllBut(ids) => ("--exclude-operation-id", ALONE, owned(ids)),
            Self::ChainedAllBut(ids) => ("--exclude-operation-id", CHAINED, owned(ids)),
            Self::Chained(ids) => ("--include-operation-id", CHAINED, owned(ids)),
        }
    }
}

/// Goes by operations with a credential. What it finds is the error. Answers how many operations it
/// tested.
pub async fn holds(server: &Server, credential: Credential<'_>, operations: Operations<'_>) -> Result<usize> {
    // It keeps files of its own where it is started.
    let dir = TempDir::new()?;
    std::fs::write(dir.path().join("schemathesis.toml"), credential.file())?;
    let mut command = Command::new(tools::schemathesis()?);
    command.current_dir(dir.path()).env("HOME", dir.path()).env("NO_COLOR", "1").env("COLUMNS", "200");
    // From a file: by its address, the tool would leave the operation out that answers the
    // document.
    std::fs::write(dir.path().join("openapi.json"), document(server).await?)?;
    command.args(["run", "openapi.json", "--url", server.base.as_str()]);
    command.args(["--checks", CHECKS, "--seed", "1", "--max-examples", "8", "--no-shrink"]);
    command.args(["--continue-on-failure", "--request-timeout", "30", "--suppress-health-check", "all"]);
    let (which, phases, ids) = operations.arguments();
    command.args(["--phases", phases]);
    for id in ids {
        command.args([which, &id]);
    }
    let output = raw_output_within(LIMIT, "schemathesis", &mut command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let begins = said.find("= FAILURES").or_else(|| said.find("= ERRORS")).unwrap_or_default();
        bail!("{}{}", said.get(begins..).unwrap_or(&said), String::from_utf8_lossy(&output.stderr));
    }
    tested(&said).with_context(|| format!("it does not say how many operations it tested:\n{said}"))
}

/// The document, as the program serves it.
pub async fn document(server: &Server) -> Result<String> {
    let answer = reqwest::get(server.at("/api/openapi.json")?).await?;
    Ok(answer.error_for_status()?.text().await?)
}

fn tested(said: &str) -> Option<usize> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Tested:"))?;
    line.trim().parse().ok()
}
