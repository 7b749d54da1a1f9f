//! A soak: an hour's worth of clients, cancellations, crashes and revocations in as much time as a
//! test may take. What is left over at the end is looked for from outside: in the numbers that the
//! server shows, its open files and its children.

pub mod client;
pub mod random;
pub mod relay;
pub mod token;
pub mod trouble;
pub mod upstream;
