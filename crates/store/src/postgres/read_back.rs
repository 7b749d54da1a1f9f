//! Verifies an import in its transaction by reading the rows in the same way as later reads. If a
//! row cannot be read, the whole import is refused.

use super::errors::Failure;
use super::link::Link;
use super::log;
use super::rows::{self, PAT, USER, whole};

pub(crate) async fn read_back(link: &Link) -> Result<(), Failure> {
    let pats = link.prepare(&format!("SELECT {PAT} FROM pats p")).await?;
    for row in link.rows(&pats, &[]).await? {
        rows::pat(&row)?;
    }
    let users = link.prepare(&format!("SELECT {USER} FROM users u")).await?;
    for row in link.rows(&users, &[]).await? {
        rows::user(&row, 0)?;
    }
    let after = log::after(link).await?;
    let mut seq = 0;
    while let Some(last) = log::entries(&link.rows(&after, &[&whole(seq)]).await?)?.last() {
        seq = last.seq;
    }
    Ok(())
}
