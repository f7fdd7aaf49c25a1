//! What must hold of a simulated cluster and of real processes alike; `docs/invariants.md` numbers the promises.

pub mod durability;
pub mod health;
pub mod namespace;
pub mod permissions;
