//! Stories: one trouble each, told from beginning to end.

mod damage;
mod failover;
mod limits;
mod restart;
mod stage;
