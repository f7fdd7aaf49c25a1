//! Stories of one master.
