//! The networks from which tokens were used.

use futures_util::future::try_join;
use tokio_postgres::{Row, Statement};
use trustrelay_authority::{KEPT_NETWORKS, NetworkUse, Usage, networks_of};
use uuid::Uuid;

use super::errors::Failure;
use super::link::Link;
use super::rows::{corrupt, get, time, whole};
use crate::sqlite::networks::step;

/// The rows to be written as arrays, so that one statement writes all of them.
pub(super) struct Networks {
    insert: Statement,
    cut: Statement,
    pats: Vec<Uuid>,
    networks: Vec<String>,
    first: Vec<i64>,
    last: Vec<i64>,
}

impl Networks {
    pub(super) async fn prepare(link: &Link, notes: &[Usage]) -> Result<Self, Failure> {
        let insert = link
            .prepare(
                "INSERT INTO pat_networks AS n (pat_id, network, first_used_at, last_used_at) \
                 SELECT u.pat_id, u.network, u.first, u.last FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) \
                 AS u (pat_id, network, first, last) JOIN pats USING (pat_id) ON CONFLICT (pat_id, network) DO UPDATE SET \
                 first_used_at = LEAST(n.first_used_at, excluded.first_used_at), \
                 last_used_at = GREATEST(n.last_used_at, excluded.last_used_at) \
                 WHERE excluded.last_used_at - n.last_used_at >= $5 OR excluded.first_used_at < n.first_used_at",
            )
            .await?;
        let cut = link
            .prepare(
                "DELETE FROM pat_networks WHERE (pat_id, network) IN (SELECT pat_id, network FROM (SELECT pat_id, network, \
                 row_number() OVER (PARTITION BY pat_id ORDER BY last_used_at DESC, network) AS place \
                 FROM pat_networks WHERE pat_id = ANY ($1)) AS n WHERE place > $2)",
            )
            .await?;
        let (mut pats, mut networks) = (Vec::new(), Vec::new());
        let (mut first, mut last) = (Vec::new(), Vec::new());
        // Each row occurs once, because a statement cannot change the same row twice.
        for ((pat_id, network), used) in networks_of(notes) {
            pats.push(pat_id);
            networks.push(network.to_string());
            first.push(used.first_used_at.as_microsecond());
            last.push(used.last_used_at.as_microsecond());
        }
        Ok(Self { insert, cut, pats, networks, first, last })
    }

    /// Writes the rows. The tokens must already be locked.
    pub(super) async fn write(&self, link: &Link) -> Result<(), Failure> {
        if self.pats.is_empty() {
            return Ok(());
        }
        try_join(
            link.count(&self.insert, &[&self.pats, &self.networks, &self.first, &self.last, &step()]),
            link.count(&self.cut, &[&self.pats, &whole(KEPT_NETWORKS as u64)]),
        )
        .await
        .map(drop)
    }
}

pub(super) fn network(row: &Row) -> Result<NetworkUse, Failure> {
    Ok(NetworkUse {
        network: get::<&str>(row, 0)?.parse().map_err(corrupt)?,
        first_used_at: time(row, 1)?,
        last_used_at: time(row, 2)?,
    })
}
