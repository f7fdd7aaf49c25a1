//! Stories of one master, with a disk in memory that completes in order and chunkservers played by hand.

mod disk;
mod log;
mod races;
mod rig;
mod seal;
mod service;
