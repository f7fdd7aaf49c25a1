//! Directed tests: commands in, replies and events out.

use super::*;
use crate::defect::Defects;
use crate::id::{
    BootId, ChunkVersion, Durability, FileId, ProcessId, ServerId, SessionId, TrashId, VolumeId,
};
use crate::master::command::{Change, Command, MAX_DROPS, ReplicaDrop};
use crate::message::{DropReason, Identity, Member, StorageOptions};
use crate::time::UnixMs;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

pub(super) const OPTIONS: StorageOptions =
    StorageOptions { replication: 3, quorum: 2, chunk_bytes: 4096, durability: Durability::Sync };
pub(super) const DAY: u64 = 86_400_000;

pub(super) fn who(user: &str) -> Identity {
    Identity { user: user.into(), groups: vec![format!("{user}s")] }
}

pub(super) fn member(n: u64) -> Member {
    Member {
        server: ServerId(n),
        session: SessionId(n),
        volume: VolumeId(n),
        boot: BootId(n),
        process: ProcessId(n),
    }
}

/// A catalog with a clock that ticks at every command.
struct Story {
    catalog: Catalog,
    now: u64,
}

impl Story {
    fn new() -> Story {
        let mut story = Story { catalog: Catalog::new(Defects::none()), now: 1_000 };
        story.ok(Change::Format { cluster: ClusterId(77) });
        story.ok(Change::Start {});
        story
    }

    fn apply(&mut self, change: Change) -> Applied {
        self.now += 1;
        let checked = self.catalog.check(&change);
        let applied = self.catalog.apply(&Command { origin: None, at: UnixMs(self.now), change });
        assert_eq!(checked.err(), applied.reply.as_ref().err().cloned(), "check and apply agree");
        applied
    }

    #[track_caller]
    fn ok(&mut self, change: Change) -> MasterReply {
        self.apply(change).reply.unwrap()
    }

    #[track_caller]
    fn refused(&mut self, change: Change) -> String {
        let before = (self.catalog.counts(), self.catalog.namespace_digest());
        let applied = self.apply(change);
        assert_eq!(applied.events, []);
        assert_eq!(before, (self.catalog.counts(), self.catalog.namespace_digest()));
        applied.reply.unwrap_err().to_string()
    }

    fn begin(&mut self, user: &str, path: &str, replace: bool) -> UploadId {
        match self.ok(begin(user, path, replace)) {
            MasterReply::Upload { upload, .. } => upload,
            other => panic!("{other:?}"),
        }
    }

    fn grant(&mut self, upload: UploadId, ordinal: u32) -> ChunkId {
        match self.ok(grant(upload, ordinal)) {
            MasterReply::Grant(grant) => grant.chunk,
            other => panic!("{other:?}"),
        }
    }

    fn seal(&mut self, chunk: ChunkId, length: u64, crc: u32) -> SealedChunk {
        match self.ok(Change::SealChunk { chunk, version: ChunkVersion(1), length, crc }) {
            MasterReply::Sealed(sealed) => sealed,
            other => panic!("{other:?}"),
        }
    }

    /// Writes a file of whole 4 KiB chunks and a rest, each filled with its number.
    fn put(&mut self, user: &str, path: &str, length: u64, replace: bool) -> Vec<ChunkId> {
        let upload = self.begin(user, path, replace);
        let (mut chunks, mut left) = (Vec::new(), length);
        while left > 0 {
            let ordinal = chunks.len() as u32;
            let part = left.min(4096);
            let chunk = self.grant(upload, ordinal);
            self.seal(chunk, part, crc32fast::hash(&vec![ordinal as u8; part as usize]));
            chunks.push(chunk);
            left -= part;
        }
        self.ok(complete(user, upload, length));
        chunks
    }

    fn trash_of(&self, user: &str) -> Vec<String> {
        let (entries, _) = self.catalog.list_trash(&who(user), None, 0xffff);
        entries.into_iter().map(|entry| format!("{} {} by {}", entry.id, entry.path, entry.by)).collect()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let (entries, _) = self.catalog.list(&who("root"), path, None, 1000).unwrap();
        entries.into_iter().map(|entry| entry.path).collect()
    }
}

impl Catalog {
    /// The state without what counts commands.
    fn namespace_digest(&self) -> u64 {
        let mut hasher = Digest::default();
        (&self.namespace, &self.chunks, &self.uploads, &self.trash).hash(&mut hasher);
        hasher.finish()
    }
}

fn mkdir(user: &str, path: &str) -> Change {
    Change::Mkdir { identity: who(user), path: path.into(), parents: false, mode: 0o755 }
}

fn begin(user: &str, path: &str, replace: bool) -> Change {
    Change::BeginUpload { identity: who(user), path: path.into(), replace, mode: 0o640, options: OPTIONS }
}

fn grant(upload: UploadId, ordinal: u32) -> Change {
    Change::GrantChunk {
        upload,
        ordinal,
        members: vec![member(1), member(2), member(3)],
        replication: 3,
        quorum: 2,
        durability: Durability::Sync,
        capacity: 4096,
    }
}

fn complete(user: &str, upload: UploadId, length: u64) -> Change {
    Change::CompleteUpload { identity: who(user), upload, length, undelete_ms: DAY }
}

fn rename(user: &str, from: &str, to: &str, replace: bool) -> Change {
    Change::Rename { identity: who(user), from: from.into(), to: to.into(), replace, undelete_ms: DAY }
}

fn delete(user: &str, path: &str, recursive: bool) -> Change {
    Change::Delete { identity: who(user), path: path.into(), recursive, undelete_ms: DAY }
}

fn restore(user: &str, entry: Option<u64>, path: &str, to: Option<&str>) -> Change {
    let (entry, to) = (entry.map(TrashId), to.map(String::from));
    Change::Restore { identity: who(user), entry, path: path.into(), to }
}

fn chmod(user: &str, path: &str, mode: u16) -> Change {
    Change::Chmod { identity: who(user), path: path.into(), mode }
}

fn chown(user: &str, path: &str, owner: Option<&str>, group: Option<&str>) -> Change {
    let (owner, group) = (owner.map(String::from), group.map(String::from));
    Change::Chown { identity: who(user), path: path.into(), owner, group }
}

#[test]
fn a_file_is_written_found_replaced_deleted_restored_and_reclaimed() {
    let mut story = Story::new();
    let first = story.put("ann", "/f", 10_000, false);
    let status = story.catalog.stat(&who("ann"), "/f").unwrap();
    assert_eq!((status.length, status.extents, status.owner.as_str()), (10_000, 3, "ann"));
    let bytes = [vec![0; 4096], vec![1; 4096], vec![2; 1808]].concat();
    assert_eq!(status.crc, crc32fast::hash(&bytes));

    let plan = story.catalog.plan(&who("ann"), "/f", 4095, 2, 10).unwrap();
    let places: Vec<_> = plan.extents.iter().map(|e| (e.index, e.file_offset, e.chunk.chunk)).collect();
    assert_eq!(places, [(0, 0, first[0]), (1, 4096, first[1])]);
    assert!(story.catalog.plan(&who("ann"), "/f", 10_000, 5, 10).unwrap().extents.is_empty());
    assert_eq!(story.catalog.plan(&who("ann"), "/f", 0, u64::MAX, 2).unwrap().extents.len(), 2);

    assert_eq!(story.refused(begin("ann", "/f", false)), "/f: already exists");
    let second = story.put("ann", "/f", 5, true);
    assert_eq!(story.catalog.stat(&who("ann"), "/f").unwrap().length, 5);
    assert_eq!(story.trash_of("ann"), ["trash-1 /f by ann"]);
    assert_eq!(story.catalog.chunk_path(first[0]).unwrap(), "/f (trash-1)");
    assert_eq!(story.catalog.chunk_path(second[0]).unwrap(), "/f");

    assert_eq!(story.refused(restore("ann", Some(1), "", None)), "/f: already exists");
    assert_eq!(story.ok(restore("ann", Some(1), "", Some("/old"))), MasterReply::Restored("/old".into()));
    assert_eq!(story.catalog.stat(&who("ann"), "/old").unwrap().length, 10_000);
    assert_eq!(story.trash_of("ann"), Vec::<String>::new());

    assert_eq!(story.ok(delete("ann", "/old", false)), MasterReply::Trashed(TrashId(2)));
    let expiry = story.catalog.next_trash_expiry().unwrap();
    assert_eq!(story.catalog.expired_trash(UnixMs(expiry.0 - 1)), None);
    assert_eq!(story.catalog.expired_trash(expiry), Some(TrashId(2)));
    let mut removed = Vec::new();
    let mut steps = 0;
    while let Some(entry) = story.catalog.expired_trash(expiry) {
        for event in story.apply(Change::ReclaimTrash { entry, budget: 1 }).events {
            match event {
                Event::ChunksRemoved(chunks) => removed.extend(chunks),
                other => panic!("{other:?}"),
            }
        }
        steps += 1;
        if steps == 1 {
            assert_eq!(
                story.refused(restore("ann", Some(2), "", None)),
                "trash-2: no such file or directory"
            );
            assert!(story.refused(restore("ann", None, "/old", None)).contains("no such file"));
        }
    }
    removed.sort();
    assert_eq!((removed, steps), (first, 4));
    assert_eq!(story.catalog.counts(), Counts { files: 1, chunks: 1, ..Counts::default() });
}

#[test]
fn an_upload_is_invisible_until_it_is_complete_and_whole() {
    let mut story = Story::new();
    let upload = story.begin("ann", "/f", false);
    assert_eq!(
        story.refused(grant(upload, 1)).split(" can't").next(),
        Some("invalid argument: chunk number 1 of upload-1")
    );
    let a = story.grant(upload, 0);
    assert_eq!(story.grant(upload, 0), a, "the same grant again (rule 17)");
    assert!(story.refused(complete("ann", upload, 0)).contains("still open"));
    story.seal(a, 7, 1);
    assert!(matches!(story.ok(grant(upload, 0)), MasterReply::Sealed(SealedChunk { length: 7, .. })));
    let empty = story.grant(upload, 1);
    story.seal(empty, 0, 0);
    assert!(story.catalog.stat(&who("ann"), "/f").is_err());
    assert!(story.refused(complete("ann", upload, 8)).contains("7 bytes in its chunks, not 8"));
    assert!(story.refused(complete("eve", upload, 7)).contains("who began the upload"));
    assert_eq!(story.catalog.chunk_path(a).unwrap(), "/f (upload-1)");

    let applied = story.apply(complete("ann", upload, 7));
    assert_eq!(applied.events, [Event::ChunksRemoved(vec![empty]), Event::UploadGone(upload)]);
    assert!(
        matches!(applied.reply, Ok(MasterReply::Status(status)) if status.extents == 1 && status.path == "/f")
    );
    assert!(story.refused(complete("ann", upload, 7)).contains("gone"));
    assert!(story.refused(grant(upload, 2)).contains("gone"));
}

#[test]
fn a_name_taken_meanwhile_refuses_completion_and_keeps_the_upload() {
    let mut story = Story::new();
    story.ok(mkdir("ann", "/d"));
    let upload = story.begin("ann", "/d/f", false);
    story.put("ann", "/d/f", 1, false);
    assert_eq!(story.refused(complete("ann", upload, 0)), "/d/f: already exists");
    story.ok(delete("ann", "/d", true));
    assert_eq!(story.refused(complete("ann", upload, 0)), "/d: no such file or directory");
    story.ok(mkdir("ann", "/d"));
    story.ok(complete("ann", upload, 0));
    assert_eq!(story.names("/d"), ["f"]);
}

#[test]
fn a_seal_applies_only_to_the_open_version() {
    let mut story = Story::new();
    let upload = story.begin("ann", "/f", false);
    let chunk = story.grant(upload, 0);
    let seal = |version, length| Change::SealChunk { chunk, version: ChunkVersion(version), length, crc: 9 };
    assert!(story.refused(seal(2, 1)).contains("not open"));
    assert!(story.refused(seal(1, 4097)).contains("capacity"));
    assert_eq!(story.catalog.counts().open_chunks, 1);
    let sealed = SealedChunk { chunk, version: ChunkVersion(2), length: 10, crc: 9 };
    assert_eq!(story.apply(seal(1, 10)).events, [Event::ChunkSealed(sealed)]);
    // A second seal of the same version is told the first one's length (rule 8).
    let again = story.apply(seal(1, 3));
    assert_eq!((again.reply, again.events), (Ok(MasterReply::Sealed(sealed)), vec![]));
    assert!(story.refused(seal(2, 3)).contains("not open"));
    assert!(story.refused(seal(u32::MAX, 3)).contains("not open"));
    assert_eq!(story.catalog.grant(chunk), None);
}

#[test]
fn abort_and_expiry_doom_the_chunks() {
    let mut story = Story::new();
    let upload = story.begin("ann", "/f", false);
    let (a, b) = (story.grant(upload, 0), story.grant(upload, 1));
    story.seal(a, 5, 0);
    let abort = |user: &str| Change::AbortUpload { identity: who(user), upload };
    assert!(story.refused(abort("eve")).contains("permission denied"));
    let gone = story.apply(abort("ann"));
    assert_eq!(gone.events, [Event::ChunksRemoved(vec![a, b]), Event::UploadGone(upload)]);
    assert!(story.refused(Change::ExpireUpload { upload }).contains("gone"));
    assert!(
        story
            .refused(Change::SealChunk { chunk: b, version: ChunkVersion(1), length: 0, crc: 0 })
            .contains("not open")
    );
    assert_eq!(story.catalog.counts(), Counts::default());
    assert_eq!(story.catalog.next_chunk(), ChunkId(3), "ids are never reused");
}

#[test]
fn grants_are_validated() {
    let mut story = Story::new();
    let upload = story.begin("ann", "/f", false);
    let with = |ids: &[u64], replication, quorum, capacity| Change::GrantChunk {
        upload,
        ordinal: 0,
        members: ids.iter().map(|id| member(*id)).collect(),
        replication,
        quorum,
        durability: Durability::Sync,
        capacity,
    };
    for bad in [
        with(&[], 3, 1, 1),
        with(&[1, 1], 3, 1, 1),
        with(&[1], 3, 2, 1),
        with(&[1, 2, 3], 2, 1, 1),
        with(&[1], 3, 0, 1),
        with(&[1], 9, 1, 1),
        with(&[1], 3, 1, 0),
        with(&[1], 3, 1, (1 << 30) + 1),
    ] {
        assert!(story.refused(bad).contains("invalid argument"));
    }
    story.ok(with(&[1, 2], 3, 2, 1));
}

#[test]
fn storage_options_are_validated() {
    let mut story = Story::new();
    for (replication, quorum, chunk_bytes) in
        [(0, 1, 4096), (9, 1, 4096), (3, 0, 4096), (3, 4, 4096), (3, 2, 0), (3, 2, 5000), (3, 2, 1 << 31)]
    {
        let options = StorageOptions { replication, quorum, chunk_bytes, durability: Durability::Sync };
        let change =
            Change::BeginUpload { identity: who("a"), path: "/f".into(), replace: false, mode: 0, options };
        assert!(story.refused(change).contains("invalid argument"));
    }
}

#[test]
fn defaults_fill_in_what_is_left_open() {
    use crate::config::MasterConfig;
    let resolve = |replication, quorum, default| {
        let asked = StorageOptions { replication, quorum, ..StorageOptions::default() };
        let options = resolve_options(asked, &MasterConfig { quorum: default, ..MasterConfig::default() });
        (options.replication, options.quorum)
    };
    assert_eq!(resolve(0, 0, 0), (3, 2));
    assert_eq!(resolve(5, 0, 0), (5, 3));
    assert_eq!([2, 4].map(|replication| resolve(replication, 0, 0)), [(2, 2), (4, 3)], "a majority");
    assert_eq!(resolve(1, 0, 2), (1, 1));
    assert_eq!(resolve(4, 0, 2), (4, 2));
    assert_eq!(resolve(0, 1, 2), (3, 1));
}

#[test]
fn directories_are_made_listed_in_pages_moved_and_counted() {
    let mut story = Story::new();
    assert_eq!(story.refused(mkdir("ann", "/a/b/c")), "/a: no such file or directory");
    let deep = Change::Mkdir { identity: who("ann"), path: "/a/b/c".into(), parents: true, mode: 0o500 };
    story.ok(deep.clone());
    story.ok(deep);
    let mode = |path: &str| story.catalog.stat(&who("ann"), path).unwrap().mode;
    assert_eq!((mode("/a"), mode("/a/b"), mode("/a/b/c")), (0o700, 0o700, 0o500));
    assert_eq!(story.refused(mkdir("ann", "/a")), "/a: already exists");
    assert_eq!(story.refused(mkdir("ann", "/")), "/: already exists");
    for n in 0..25 {
        story.put("ann", &format!("/a/b/f{n:02}"), 0, false);
    }
    assert_eq!(story.refused(mkdir("ann", "/a/b/f01/x")), "/a/b/f01: not a directory");
    let (page, more) = story.catalog.list(&who("ann"), "/a/b", Some("c"), 10).unwrap();
    assert_eq!((page.len(), page[0].path.as_str(), page[9].path.as_str(), more), (10, "f00", "f09", true));
    let (page, more) = story.catalog.list(&who("ann"), "/a/b", Some("f14"), 10).unwrap();
    assert_eq!((page.len(), more), (10, false));
    let (itself, more) = story.catalog.list(&who("ann"), "/a/b/f03", None, 10).unwrap();
    assert_eq!((itself[0].path.as_str(), more), ("f03", false));
    assert!(story.catalog.list(&who("ann"), "/a/b/f03", Some("f03"), 10).unwrap().0.is_empty());

    assert!(story.refused(rename("ann", "/a", "/a/b/d", false)).contains("into itself"));
    story.ok(rename("ann", "/a", "/a", false));
    story.ok(mkdir("ann", "/z"));
    story.ok(rename("ann", "/a/b", "/z/y", false));
    let all = Counts { files: 25, directories: 4, ..Counts::default() };
    assert_eq!(story.catalog.counts(), all);
    assert_eq!(story.catalog.stat(&who("ann"), "/z/y").unwrap().length, 26);
    let id = story.catalog.stat(&who("ann"), "/z/y/f07").unwrap().id;
    assert_eq!(story.catalog.path_of(id).unwrap(), "/z/y/f07");
    assert_eq!(story.catalog.path_of(FileId(1)).unwrap(), "/");

    assert!(story.refused(delete("ann", "/z", false)).contains("not empty"));
    story.ok(delete("ann", "/z", true));
    assert_eq!(story.catalog.counts(), Counts { directories: 1, trash: 1, ..Counts::default() });
    assert_eq!(story.catalog.path_of(id).unwrap(), "/z/y/f07 (trash-1)");
    story.ok(restore("ann", None, "/z", None));
    assert_eq!(story.catalog.counts(), all);
    story.ok(delete("ann", "/z", true));
    let mut steps = 0;
    while let Some(entry) = story.catalog.expired_trash(UnixMs(u64::MAX)) {
        story.ok(Change::ReclaimTrash { entry, budget: 5 });
        steps += 1;
    }
    // 25 files and 3 directories to free, and the way down to the first leaf of each directory.
    assert!((6..20).contains(&steps), "{steps}");
    assert_eq!(story.catalog.path_of(id), None);
    assert_eq!(story.catalog.counts(), Counts { directories: 1, ..Counts::default() });
}

#[test]
fn renames_replace_only_files_by_files() {
    let mut story = Story::new();
    story.put("ann", "/f", 1, false);
    story.put("ann", "/g", 2, false);
    story.ok(mkdir("ann", "/d"));
    assert_eq!(story.refused(rename("ann", "/f", "/g", false)), "/g: already exists");
    assert_eq!(story.refused(rename("ann", "/f", "/d", false)), "/d: already exists");
    assert_eq!(story.refused(rename("ann", "/f", "/d", true)), "/d: is a directory");
    assert_eq!(story.refused(rename("ann", "/d", "/f", true)), "/f: not a directory");
    assert_eq!(story.refused(rename("ann", "/x", "/y", true)), "/x: no such file or directory");
    assert_eq!(story.refused(rename("ann", "/f", "/x/y", true)), "/x: no such file or directory");
    assert!(story.refused(rename("root", "/", "/x", true)).contains("root directory"));
    assert!(story.refused(delete("root", "/", true)).contains("root directory"));
    story.ok(rename("ann", "/f", "/g", true));
    assert_eq!(story.names("/"), ["d", "g"]);
    assert_eq!(story.catalog.stat(&who("ann"), "/g").unwrap().length, 1);
    assert_eq!(story.trash_of("ann"), ["trash-1 /g by ann"]);
}

#[test]
fn permissions_are_checked_on_every_component() {
    let mut story = Story::new();
    story.ok(mkdir("ann", "/a"));
    story.put("ann", "/a/f", 3, false);
    let eve = who("eve");
    assert!(story.refused(begin("eve", "/a/g", false)).contains("needs write and search permission"));
    assert!(story.refused(mkdir("eve", "/a/d")).contains("/a: permission denied"));
    assert!(story.refused(delete("eve", "/a/f", false)).contains("permission denied"));
    assert_eq!(story.refused(delete("eve", "/a/none", false)), "/a/none: no such file or directory");
    assert!(story.refused(chmod("eve", "/a", 0o777)).contains("ownership"));
    assert!(story.catalog.plan(&eve, "/a/f", 0, 1, 1).unwrap_err().to_string().contains("read permission"));
    story.ok(chmod("ann", "/a/f", 0o644));
    assert!(story.catalog.plan(&eve, "/a/f", 0, 1, 1).is_ok());

    story.ok(chmod("ann", "/a", 0o711));
    assert!(story.catalog.list(&eve, "/a", None, 1).unwrap_err().to_string().contains("read permission"));
    assert!(story.catalog.stat(&eve, "/a/f").is_ok());
    story.ok(chmod("ann", "/a", 0o744));
    assert!(story.catalog.list(&eve, "/a", None, 1).is_ok());
    assert!(story.catalog.stat(&eve, "/a/f").unwrap_err().to_string().contains("search permission"));
    assert!(story.catalog.stat(&who("root"), "/a/f").is_ok());
    assert!(story.refused(chmod("ann", "/a", 0o10000)).contains("7777"));
}

#[test]
fn owners_and_groups_change_by_the_rules() {
    let mut story = Story::new();
    story.put("ann", "/f", 3, false);
    assert!(story.refused(chown("ann", "/f", Some("bob"), None)).contains("root"));
    assert!(story.refused(chown("eve", "/f", None, Some("eves"))).contains("ownership"));
    assert!(story.refused(chown("ann", "/f", None, Some("wheel"))).contains("membership"));
    assert!(story.refused(chown("root", "/f", Some(""), None)).contains("empty"));
    story.ok(chown("ann", "/f", Some("ann"), Some("anns")));
    story.ok(chown("root", "/f", Some("bob"), Some("wheel")));
    let status = story.catalog.stat(&who("bob"), "/f").unwrap();
    assert_eq!((status.owner.as_str(), status.group.as_str()), ("bob", "wheel"));
}

#[test]
fn sticky_directories_protect_their_entries() {
    let mut story = Story::new();
    story.put("ann", "/f", 3, false);
    for change in [delete("eve", "/f", false), rename("eve", "/f", "/g", false), begin("eve", "/f", true)] {
        assert!(story.refused(change).contains("sticky"));
    }
    story.put("eve", "/g", 3, false);
    assert!(story.refused(rename("eve", "/g", "/f", true)).contains("sticky"));
    story.ok(chmod("root", "/", 0o777));
    story.ok(rename("eve", "/g", "/f", true));
    // Deleted by eve, owned by ann: both may bring it back, nobody else sees it.
    assert_eq!(story.trash_of("eve"), ["trash-1 /f by eve"]);
    assert_eq!(story.trash_of("ann"), ["trash-1 /f by eve"]);
    assert_eq!(story.trash_of("root").len(), 1);
    assert_eq!(story.trash_of("bob"), Vec::<String>::new());
    assert!(story.refused(restore("bob", Some(1), "", Some("/x"))).contains("permission denied"));
    assert!(story.refused(restore("bob", None, "/f", Some("/x"))).contains("no such file"));
    story.ok(restore("ann", None, "/f", Some("/x")));
    assert_eq!(story.catalog.stat(&who("eve"), "/x").unwrap().owner, "ann");
}

#[test]
fn a_tree_is_deleted_by_who_may_delete_all_that_is_in_it() {
    let mut story = Story::new();
    story.ok(mkdir("eve", "/e"));
    story.ok(chmod("eve", "/e", 0o777));
    for path in ["/e/a", "/e/a/b", "/e/a/b/c"] {
        story.ok(mkdir("ann", path));
    }
    story.put("ann", "/e/a/b/f", 3, false);
    let denied = |path: &str, needs: &str| format!("{path}: permission denied (needs {needs})");
    let writing = "write and search permission";
    assert_eq!(story.refused(delete("eve", "/e", true)), denied("/e/a", writing));
    story.ok(chmod("ann", "/e/a", 0o777));
    assert_eq!(story.refused(delete("eve", "/e", true)), denied("/e/a/b", writing));
    assert_eq!(story.refused(delete("eve", "/e/a", true)), denied("/e/a/b", writing));
    story.ok(chmod("ann", "/e/a/b", 0o1777));
    assert!(story.refused(delete("eve", "/e", true)).contains("sticky"));
    assert_eq!(story.catalog.check(&delete("ann", "/e/a", true)), Ok(()), "all in it is ann's");
    assert_eq!(story.catalog.check(&delete("root", "/e", true)), Ok(()));
    story.ok(chmod("ann", "/e/a/b", 0o777));
    story.ok(chmod("ann", "/e/a/b/c", 0));
    assert_eq!(story.ok(delete("eve", "/e", true)), MasterReply::Trashed(TrashId(1)), "c is empty");
}

#[test]
fn the_latest_of_several_deletions_is_restored_by_path() {
    let mut story = Story::new();
    for length in [1, 2, 3] {
        story.put("ann", "/f", length, false);
        story.ok(delete("ann", "/f", false));
    }
    let (page, more) = story.catalog.list_trash(&who("ann"), None, 2);
    assert_eq!((page.len(), page[0].id, more), (2, TrashId(1), true));
    let (page, more) = story.catalog.list_trash(&who("root"), Some(TrashId(2)), 2);
    assert_eq!((page.len(), page[0].id, more), (1, TrashId(3), false));
    story.ok(restore("ann", None, "/f", None));
    assert_eq!(story.catalog.stat(&who("ann"), "/f").unwrap().length, 3);
    assert!(story.refused(restore("ann", Some(1), "", Some("/no/dir"))).contains("/no: no such file"));
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut story = Story::new();
    let origin = Some((ClientId(5), RequestId(1)));
    let make = Command { origin, at: UnixMs(1), change: mkdir("ann", "/d") };
    assert_eq!(story.catalog.apply(&make).reply, Ok(MasterReply::Done));
    assert_eq!(story.catalog.apply(&make), Applied { reply: Ok(MasterReply::Done), events: vec![] });
    assert_eq!(story.catalog.recall(ClientId(5), RequestId(1)), Some(Ok(MasterReply::Done)));
    let second = Command { origin: Some((ClientId(5), RequestId(2))), ..make };
    assert!(story.catalog.apply(&second).reply.is_err());
    story.ok(delete("ann", "/d", false));
    assert!(story.catalog.apply(&second).reply.is_err(), "refusals are outcomes too");
    assert!(story.names("/").is_empty());
}

#[test]
fn only_the_first_record_formats() {
    let mut story = Story::new();
    assert_eq!((story.catalog.cluster(), story.catalog.epoch()), (ClusterId(77), 1));
    assert!(story.refused(Change::Format { cluster: ClusterId(78) }).contains("first record"));
    story.ok(Change::Start {});
    assert_eq!((story.catalog.cluster(), story.catalog.epoch()), (ClusterId(77), 2));
}

#[test]
fn oversized_input_is_refused_before_it_is_logged() {
    let mut story = Story::new();
    let long = "x".repeat(5_000);
    assert!(story.refused(mkdir("ann", &format!("/{long}"))).contains("not a valid path"));
    assert!(story.refused(mkdir(&long, "/d")).contains("longer than 255"));
    assert!(story.refused(restore("ann", Some(1), &long, None)).contains("not a valid path"));
    assert!(story.refused(chown("root", "/", Some(&long), None)).contains("longer than 255"));
    assert!(story.refused(complete(&long, UploadId(1), 0)).contains("longer than 255"));
    let drop = ReplicaDrop {
        chunk: ChunkId(1),
        version: ChunkVersion(1),
        server: ServerId(1),
        volume: VolumeId(1),
        reason: DropReason::Stale,
    };
    story.ok(Change::DropReplicas { drops: vec![drop; MAX_DROPS] });
    assert!(story.refused(Change::DropReplicas { drops: vec![drop; MAX_DROPS + 1] }).contains("at most"));
}

#[cfg(feature = "defects")]
mod planted {
    use super::*;
    use crate::defect::Defect;

    fn with(defect: Defect) -> Story {
        let mut story = Story::new();
        story.catalog.defects = Defects::one(defect);
        story
    }

    #[test]
    fn each_defect_shows() {
        let mut story = with(Defect::RenameKeepsSource);
        story.put("ann", "/f", 1, false);
        story.ok(rename("ann", "/f", "/g", false));
        assert_eq!(story.names("/"), ["f", "g"]);

        let mut story = with(Defect::EarlyVisible);
        story.put("ann", "/f", 1, false);
        story.begin("ann", "/f", true);
        assert_eq!(story.catalog.stat(&who("ann"), "/f").unwrap().length, 0);

        let mut story = with(Defect::LeakChunks);
        let upload = story.begin("ann", "/f", false);
        story.grant(upload, 0);
        assert_eq!(story.apply(Change::ExpireUpload { upload }).events, [Event::UploadGone(upload)]);
        assert_eq!(story.catalog.counts().chunks, 1);
    }
}
