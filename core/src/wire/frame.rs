//! Data-plane frames: `magic (4) | version (1) | kind (1) | reserved (2) | header length (4) | payload length (4) |
//! header crc32 (4)`, then the header in bincode, then the raw payload.
