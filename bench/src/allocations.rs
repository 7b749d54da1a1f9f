//! How many allocations a warm verification makes. A program of its own: what counts is in the way
//! of every allocation, and what is timed must not have it. `trustrelay-bench core` starts it; it
//! prints allocations and verifications.

#[allow(dead_code, reason = "the bench uses the rest")]
mod data;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Builder;
use trustrelay_token::{Token, Verification, Verifier as _};

const TOKENS: usize = 1000;
/// How often each is verified.
const TIMES: usize = 10;

fn main() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime.context("the async runtime does not start").and_then(|runtime| runtime.block_on(count())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the end of a command that failed")]
            {
                eprintln!("trustrelay-bench-allocations: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// From the text of a token to the answer, with the metrics that the program has.
async fn count() -> Result<()> {
    metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let data = data::Data::new(&std::env::temp_dir(), TOKENS).await?;
    let tokens: Vec<Token> = data.fill(TOKENS, |issued| issued.token).await?;
    data.know(tokens.iter()).await?;
    // That it counts: the same token as a text of its own.
    let one = allocation_counter::measure(|| drop(std::hint::black_box(tokens[0].expose().to_owned())));
    ensure!(one.count_total == 1, "an allocation counts as {}", one.count_total);
    let mut answered = 0;
    let counted = allocation_counter::measure(|| {
        for token in tokens.iter().cycle().take(TOKENS * TIMES) {
            let Ok(token) = Token::from_bytes(token.expose().as_bytes()) else { continue };
            if let Verification::Ready(Ok(_)) = data.authority.verify(token) {
                answered += 1;
            }
        }
    });
    ensure!(answered == TOKENS * TIMES, "{answered} of {} were answered from memory", TOKENS * TIMES);
    #[allow(clippy::print_stdout, reason = "what it is asked for")]
    {
        println!("{} {answered}", counted.count_total);
    }
    data.close().await;
    Ok(())
}
