//! Stories of three chunkservers, with a scripted master and writer.

mod disk;
mod faults;
mod flushing;
mod journal;
mod losers;
mod misreads;
mod quarantine;
mod settling;
mod upkeep;
mod world;
mod writing;
