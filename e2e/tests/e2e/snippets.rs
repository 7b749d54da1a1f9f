//! What the Developer page gives to paste is pasted, as it stands there, and has to work.

use anyhow::{Context, Result};
use tokio::process::Command;
use trustrelay_e2e::agent::Scripts;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::everything::Everything;
use trustrelay_e2e::process::{output, raw_output};
use trustrelay_e2e::server::Server;
use trustrelay_e2e::tools;

/// The page that shows a new token.
struct NewToken(String);

impl NewToken {
    async fn made(server: &Server) -> Result<Self> {
        let fields = [("pat_name", "pasted"), ("scope", "mcp"), ("scope", "api"), ("expires_in_days", "7")];
        Ok(Self(Api::sign_in(server).await?.submit("/settings/developer", &fields).await?))
    }

    fn token(&self) -> Result<String> {
        code(&self.0, "id=\"new-token\"").context("no token on the page")
    }

    /// The code that stands under a client's name.
    fn snippet(&self, client: &str) -> Result<String> {
        let (_, rest) = self.0.split_once(&format!(">{client}</h4>")).context("no such client")?;
        code(rest, "id=\"snippet-").with_context(|| format!("no snippet for {client}"))
    }
}

/// The text of the first `code` element with this in its tag.
fn code(html: &str, tag: &str) -> Option<String> {
    let (_, rest) = html.split_once(tag)?;
    let (_, rest) = rest.split_once('>')?;
    let (text, _) = rest.split_once("</code>")?;
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

#[tokio::test]
async fn the_curl_snippet_says_whose_the_token_is() -> Result<()> {
    let server = Server::start(&[]).await?;
    let page = NewToken::made(&server).await?;
    let said = output("the curl snippet", Command::new("sh").arg("-c").arg(page.snippet("curl")?)).await?;
    assert!(
        said.contains("\"email\":\"ada@example.org\"") && said.contains("\"pat_scope\":\"mcp api\""),
        "{said}"
    );
    assert!(!said.contains(&page.token()?), "the answer must not show the token");
    Ok(())
}

#[tokio::test]
async fn the_python_and_typescript_snippets_list_the_tools_with_a_good_token_and_fail_with_a_bad_one()
-> Result<()> {
    let everything = Everything::start().await?;
    let server = Server::start(&[("everything", &everything.url)]).await?;
    let page = NewToken::made(&server).await?;
    let scripts = Scripts::new()?;
    let python = scripts.add("agent.py", &page.snippet("Python")?)?;
    let typescript = scripts.add("agent.mts", &page.snippet("TypeScript")?)?;
    let token = page.token()?;
    for (program, script) in [(tools::python()?, python), (tools::node()?, typescript)] {
        let with = |token: &str| {
            let mut command = Command::new(&program);
            command.arg(&script).env("TRUSTRELAY_TOKEN", token);
            command
        };
        let name = script.display().to_string();
        let said = output(&name, &mut with(&token)).await?;
        assert!(said.contains("everything__echo"), "{name}: {said}");
        let refused = raw_output(&name, &mut with(&token.replace("tr_pat_", "tr_pat_x"))).await?;
        assert!(!refused.status.success(), "{name} accepts a token that is none");
    }
    Ok(())
}
