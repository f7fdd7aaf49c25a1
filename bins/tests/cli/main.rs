//! The programs as users run them: real processes, real sockets, real disks.

mod cluster;
mod crashes;
mod files;
mod names;
mod refusals;
mod starts;
mod storms;
