//! The relay's stories, each with its negative beside it: clients in process, upstreams over loopback and pipes.
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
