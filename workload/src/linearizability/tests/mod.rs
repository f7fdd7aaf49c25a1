//! The checker is checked: planted contradictions, all orders tried by force, and another project's tester.

mod force;
mod planted;
mod random;
mod stateright;
