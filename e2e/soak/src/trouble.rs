//! What goes wrong meanwhile, and what is taken away.

use anyhow::Result;
use rustix::process::{Signal, kill_process};

use crate::random::Random;
use crate::relay::Relay;
use crate::token::Tokens;
use crate::upstream::HttpUpstream;

/// The account whose tokens are revoked one by one.
pub const REVOKED: &str = "ada@example.org";
/// The account that is disabled and enabled again.
pub const DISABLED: &str = "bob@example.org";

/// How often each thing happened.
#[derive(Debug, Default)]
pub struct Happened {
    /// A command was killed.
    pub killed: usize,
    /// A server over HTTP was restarted.
    pub restarted: usize,
    /// A token was revoked.
    pub revoked: usize,
    /// An account was disabled.
    pub disabled: usize,
}

/// Makes trouble once.
pub async fn happens(
    relay: &Relay,
    upstreams: &mut [HttpUpstream],
    tokens: &Tokens,
    random: &mut Random,
    happened: &mut Happened,
) -> Result<()> {
    match random.below(4) {
        0 => {
            let children = relay.children()?;
            if !children.is_empty() {
                // It may have ended by itself.
                let _ = kill_process(*random.one(&children), Signal::KILL);
                happened.killed += 1;
            }
        }
        1 => {
            let which = random.below(upstreams.len());
            upstreams[which].restart().await?;
            happened.restarted += 1;
        }
        2 => {
            let mut with_power = tokens.of(REVOKED);
            with_power.retain(|token| token.power() == 0);
            let token = random.one(&with_power).clone();
            tokens.revoke(relay, &token).await?;
            tokens.make(relay, REVOKED).await?;
            happened.revoked += 1;
        }
        _ => {
            disable(relay, tokens).await?;
            tokio::time::sleep(random.pause(500)).await;
            tokens.of(DISABLED).iter().for_each(|token| token.given_back());
            relay.run(&["user", "enable", DISABLED]).await?;
            happened.disabled += 1;
        }
    }
    Ok(())
}

/// Disables the account; when the command has ended, none of its tokens may be used.
pub async fn disable(relay: &Relay, tokens: &Tokens) -> Result<()> {
    relay.run(&["user", "disable", DISABLED]).await?;
    tokens.of(DISABLED).iter().for_each(|token| token.taken());
    Ok(())
}
