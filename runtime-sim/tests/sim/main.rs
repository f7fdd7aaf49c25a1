//! The simulator's own promises, checked with toy machines.
#![allow(missing_docs, unreachable_pub)]

mod comeback;
mod disk;
mod hostile;
mod network;
mod record;
mod runs;
mod smoke;
mod toy;
