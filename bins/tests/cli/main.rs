//! The programs as users run them: real processes, real sockets, real disks.

mod cluster;
mod crashes;
mod files;
mod interrupted;
mod names;
mod refusals;
mod starts;
mod storms;
