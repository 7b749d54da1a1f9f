//! Whose word on where requests come from is taken.

use anyhow::bail;
use trustrelay_token::Network;
use trustrelay_web::{ProxyHeader, TrustedProxies};

use crate::cli::Serve;

/// The proxies of the flags, else of the file.
pub(super) fn proxies(
    serve: &Serve,
    file: &[String],
    header: Option<&str>,
) -> anyhow::Result<TrustedProxies> {
    let networks = match serve.trusted_proxy.as_slice() {
        [] => networks("configuration key `trusted-proxy`", file)?,
        flags => networks("--trusted-proxy", flags)?,
    };
    let named = match (&serve.trusted_proxy_header, header) {
        (Some(name), _) => Some(read(name).ok_or_else(|| format!("--trusted-proxy-header `{name}`"))),
        (None, Some(name)) => {
            Some(read(name).ok_or_else(|| "configuration key `trusted-proxy-header`".to_owned()))
        }
        (None, None) => None,
    };
    match named {
        Some(Err(place)) => bail!("{place} must be x-forwarded-for or forwarded"),
        Some(Ok(_)) if networks.is_empty() => {
            bail!("--trusted-proxy-header has no effect without a trusted proxy; add --trusted-proxy")
        }
        Some(Ok(header)) => Ok(TrustedProxies { networks, header }),
        None => Ok(TrustedProxies { networks, header: ProxyHeader::default() }),
    }
}

fn networks(place: &str, texts: &[String]) -> anyhow::Result<Vec<Network>> {
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        let network: Network = text.parse().map_err(|error| anyhow::anyhow!("{place}: {error}"))?;
        if network.bits() == 0 {
            bail!("{place}: {network} would trust every address; use the networks of your proxies");
        }
        networks.push(network);
    }
    Ok(networks)
}

fn read(name: &str) -> Option<ProxyHeader> {
    match name {
        "x-forwarded-for" => Some(ProxyHeader::XForwardedFor),
        "forwarded" => Some(ProxyHeader::Forwarded),
        _ => None,
    }
}
