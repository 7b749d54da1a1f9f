//! Integration tests of the relay. Each positive case has a negative counterpart. Clients run in
//! process; upstreams are reached over loopback and pipes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod care;
mod conversation;
mod cuts;
mod door;
mod faithful;
mod heard;
mod held;
mod judged;
mod kit;
mod lists;
mod matrix;
mod parked;
mod records;
mod scopes;
mod sessions;
mod shares;
mod stdio;
mod traced;
