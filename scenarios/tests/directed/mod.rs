//! Stories: one trouble each, told from beginning to end.

mod counterexamples;
mod damage;
mod failover;
mod limits;
mod lonely;
mod marks;
mod puppet;
mod restart;
mod stage;
