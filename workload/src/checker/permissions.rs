//! Whoever lacks a permission is refused, and whoever has it is not (invariant 26).
//!
//! Everybody else in a storm is root. Here a stranger tries files and directories of all modes, owners and groups; what
//! must come of it is POSIX's rule, told once more without a look at the master's.

use cairn_core::client::ClientRequest;
use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::TrashId;
use cairn_core::message::{Identity, MasterReply, MasterRequest, StorageOptions};
use cairn_core::rng::Rng;

use super::namespace::short;
use crate::content::Content;
use crate::operation::{Operation, Outcome, Storage};
use crate::perform::{Caller, master, perform, trash, unexpected};
use crate::violation::Violations;

/// What its violations are called.
pub const NAME: &str = "permissions";

const ROOT: &str = "/guarded";
const STRANGER: &str = "stranger";
const GUESTS: &str = "guests";
const OWNERS: [&str; 2] = ["keeper", STRANGER];
const GROUPS: [&str; 2] = ["keepers", GUESTS];

const READ: u16 = 4;
const WRITE: u16 = 2;
const SEARCH: u16 = 1;
const STICKY: u16 = 0o1000;

/// Things tried in one run.
const TRIED: usize = 12;

/// What the stranger tries with the file `f` in the directory `d`, each in a place of its own that is open to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Stat,
    List,
    Read,
    Create,
    Replace,
    Mkdir,
    MoveOut,
    MoveIn,
    /// A file of their own, in the place of the one there.
    MoveOver,
    Delete,
    /// The whole of `d`. Here `f` is a directory, with a file of root's in it.
    DeleteTree,
    Chmod,
    GiveAway,
    OwnGroup,
    OtherGroup,
    /// What root is just uploading: to keep it, to write to it, to complete it, to give it up.
    Upload,
    /// What its keeper deleted, by its path.
    Restore,
    /// The same by its number in the trash, which may have been told.
    RestoreNumber,
}

const ATTEMPTS: [Attempt; 18] = [
    Attempt::Stat,
    Attempt::List,
    Attempt::Read,
    Attempt::Create,
    Attempt::Replace,
    Attempt::Mkdir,
    Attempt::MoveOut,
    Attempt::MoveIn,
    Attempt::MoveOver,
    Attempt::Delete,
    Attempt::DeleteTree,
    Attempt::Chmod,
    Attempt::GiveAway,
    Attempt::OwnGroup,
    Attempt::OtherGroup,
    Attempt::Upload,
    Attempt::Restore,
    Attempt::RestoreNumber,
];

/// Owner, group and mode.
#[derive(Clone, Copy, Debug)]
struct Guard {
    owner: &'static str,
    group: &'static str,
    mode: u16,
}

impl Guard {
    fn draw(rng: &mut Rng) -> Guard {
        let sticky = if rng.chance(1, 4) { STICKY } else { 0 };
        Guard {
            owner: OWNERS[rng.below(2) as usize],
            group: GROUPS[rng.below(2) as usize],
            mode: rng.below(0o1000) as u16 | sticky,
        }
    }

    fn is_strangers(self) -> bool {
        self.owner == STRANGER
    }

    /// Whether the bits of the first class that the stranger belongs to hold all that is needed.
    fn grants(self, needs: u16) -> bool {
        let class = match (self.is_strangers(), self.group == GUESTS) {
            (true, _) => self.mode >> 6,
            (false, true) => self.mode >> 3,
            (false, false) => self.mode,
        };
        class & needs == needs
    }

    /// Whether the stranger may remove an entry of a directory with this guard; `theirs`: they own the entry.
    fn removes(self, theirs: bool) -> bool {
        let sticky = self.mode & STICKY != 0;
        self.grants(WRITE | SEARCH) && (!sticky || self.is_strangers() || theirs)
    }
}

/// One attempt, and on what.
#[derive(Clone, Copy, Debug)]
struct Case {
    attempt: Attempt,
    directory: Guard,
    file: Guard,
}

impl Case {
    fn draw(rng: &mut Rng, restores: bool) -> Case {
        let attempt = match ATTEMPTS[rng.below(ATTEMPTS.len() as u64) as usize] {
            Attempt::Restore | Attempt::RestoreNumber if !restores => Attempt::Delete,
            attempt => attempt,
        };
        Case { attempt, directory: Guard::draw(rng), file: Guard::draw(rng) }
    }

    fn is_allowed(self) -> bool {
        let (directory, file) = (self.directory, self.file);
        let enters = directory.grants(SEARCH);
        let changes = directory.grants(WRITE | SEARCH);
        let removes = directory.removes(file.is_strangers());
        match self.attempt {
            Attempt::Stat => enters,
            Attempt::List => directory.grants(READ),
            Attempt::Read => enters && file.grants(READ),
            Attempt::Create | Attempt::Mkdir | Attempt::MoveIn => changes,
            Attempt::Replace | Attempt::MoveOut | Attempt::MoveOver | Attempt::Delete => removes,
            Attempt::DeleteTree => removes && file.removes(false),
            Attempt::Chmod | Attempt::OwnGroup => enters && file.is_strangers(),
            Attempt::Restore | Attempt::RestoreNumber => changes && file.is_strangers(),
            Attempt::GiveAway | Attempt::OtherGroup | Attempt::Upload => false,
        }
    }
}

/// Cases that are in place; of what was deleted, its number in the trash.
#[derive(Debug)]
pub struct Guarded(Vec<(Case, Option<TrashId>)>);

/// Who tries.
pub fn stranger() -> Identity {
    Identity { user: STRANGER.into(), groups: vec![STRANGER.into(), GUESTS.into()] }
}

/// Lays out what will be tried. `root` is root's client; the stranger's makes what is its own. `restores`: what is deleted
/// stays in the trash for long enough.
pub async fn prepare<C: Caller>(
    root: &C,
    stranger: &C,
    (rng, restores): (&mut Rng, bool),
    violations: &Violations,
) -> Option<Guarded> {
    let cases: Vec<Case> = (0..TRIED).map(|_| Case::draw(rng, restores)).collect();
    match lay_out(root, stranger, &cases).await {
        Ok(deleted) => Some(Guarded(cases.into_iter().zip(deleted).collect())),
        Err(text) => {
            violations.add(NAME, format!("what is to be guarded can't be laid out: {text}"));
            None
        }
    }
}

async fn lay_out<C: Caller>(root: &C, stranger: &C, cases: &[Case]) -> Result<Vec<Option<TrashId>>, String> {
    let mut deleted = Vec::new();
    make(root, ROOT, 0o777).await?;
    for (i, case) in cases.iter().enumerate() {
        let place = format!("{ROOT}/{i}");
        let (directory, file) = (format!("{place}/d"), format!("{place}/d/f"));
        make(root, &place, 0o777).await?;
        make(root, &directory, 0o700).await?;
        if case.attempt == Attempt::DeleteTree {
            make(root, &file, 0o700).await?;
            did(perform(root, &put(&format!("{file}/below"), false)).await)?;
        } else {
            did(perform(root, &put(&file, false)).await)?;
        }
        guard(root, &file, case.file).await?;
        let mut number = None;
        if matches!(case.attempt, Attempt::Restore | Attempt::RestoreNumber) {
            did(perform(root, &Operation::Delete { path: file.clone(), recursive: false }).await)?;
            let trash = trash(root).await.map_err(|error| format!("the trash can't be listed: {error}"))?;
            let entry = trash.iter().find(|entry| entry.path == file);
            number = Some(entry.ok_or_else(|| format!("{file} is not in the trash"))?.id);
        }
        deleted.push(number);
        guard(root, &directory, case.directory).await?;
        if matches!(case.attempt, Attempt::MoveIn | Attempt::MoveOver) {
            did(perform(stranger, &put(&format!("{place}/own"), false)).await)?;
        }
    }
    Ok(deleted)
}

async fn make<C: Caller>(client: &C, path: &str, mode: u16) -> Result<(), String> {
    let request = MasterRequest::Mkdir { path: path.to_owned(), parents: false, mode };
    master(client, request).await.map(drop).map_err(|error| format!("{path}: {error}"))
}

async fn guard<C: Caller>(root: &C, path: &str, guard: Guard) -> Result<(), String> {
    let (owner, group) = (Some(guard.owner.to_owned()), Some(guard.group.to_owned()));
    let own = MasterRequest::Chown { path: path.to_owned(), owner, group };
    let mode = MasterRequest::Chmod { path: path.to_owned(), mode: guard.mode };
    for request in [own, mode] {
        master(root, request).await.map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// An empty file: permissions are the master's business alone.
fn put(path: &str, replace: bool) -> Operation {
    let content = Content { number: 0, length: 0 };
    Operation::Put { path: path.to_owned(), content, replace, piece: 4096, storage: Storage::default() }
}

fn did(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Done | Outcome::Stored { .. } => Ok(()),
        other => Err(short(&other)),
    }
}

/// Has the stranger try all of it.
pub async fn check<C: Caller>(root: &C, stranger: &C, guarded: &Guarded, violations: &Violations) {
    for (i, (case, deleted)) in guarded.0.iter().enumerate() {
        let place = format!("{ROOT}/{i}");
        let refused = match attempt(root, stranger, case.attempt, (&place, *deleted)).await {
            Ok(()) => false,
            Err(ClientError::Master(MasterError::PermissionDenied { .. })) => true,
            // What is not theirs to restore is not shown to them either.
            Err(ClientError::Master(MasterError::NotFound(_))) if case.attempt == Attempt::Restore => true,
            Err(error) => {
                violations.add(NAME, format!("{case:?} ended with {error}"));
                continue;
            }
        };
        if refused == case.is_allowed() {
            let wrong = if refused { "was refused" } else { "was allowed" };
            violations.add(NAME, format!("{:?} {wrong}: {case:?}", case.attempt));
        }
    }
}

/// Refused if everything is that the stranger tries with an upload of root's.
async fn attempt_upload<C: Caller>(root: &C, stranger: &C, place: &str) -> Result<(), ClientError> {
    let (path, options) = (format!("{place}/upload"), StorageOptions::default());
    let begin = MasterRequest::BeginUpload { path, replace: false, mode: 0o644, options };
    let upload = match master(root, begin).await? {
        MasterReply::Upload { upload, .. } => upload,
        other => return Err(unexpected("the beginning of an upload", &other)),
    };
    let mut tried = Ok(());
    for request in [
        MasterRequest::KeepUpload { upload },
        MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() },
        MasterRequest::CompleteUpload { upload, length: 0 },
        MasterRequest::AbortUpload { upload },
    ] {
        tried = master(stranger, request).await.map(drop);
        if !matches!(tried, Err(ClientError::Master(MasterError::PermissionDenied { .. }))) {
            break;
        }
    }
    // Whatever became of it, nothing may be left.
    let _ = master(root, MasterRequest::AbortUpload { upload }).await;
    tried
}

async fn attempt<C: Caller>(
    root: &C,
    stranger: &C,
    attempt: Attempt,
    (place, deleted): (&str, Option<TrashId>),
) -> Result<(), ClientError> {
    let (directory, file) = (format!("{place}/d"), format!("{place}/d/f"));
    let change = |owner: Option<&str>, group: Option<&str>| MasterRequest::Chown {
        path: file.clone(),
        owner: owner.map(str::to_owned),
        group: group.map(str::to_owned),
    };
    let request = match attempt {
        Attempt::Upload => return attempt_upload(root, stranger, place).await,
        Attempt::Read => {
            return stranger.call(ClientRequest::Open { path: file }).await.map(drop);
        }
        Attempt::Create | Attempt::Replace => {
            let replace = attempt == Attempt::Replace;
            let path = if replace { file } else { format!("{directory}/new") };
            return match perform(stranger, &put(&path, replace)).await {
                Outcome::Refused(error) => Err(ClientError::Master(error)),
                Outcome::Unknown(error) | Outcome::Failed(error) => Err(error),
                _ => Ok(()),
            };
        }
        Attempt::Stat => MasterRequest::Stat { path: file },
        Attempt::List => MasterRequest::List { path: directory, after: None, limit: 10 },
        Attempt::Mkdir => {
            MasterRequest::Mkdir { path: format!("{directory}/new"), parents: false, mode: 0o755 }
        }
        Attempt::MoveOut => MasterRequest::Rename { from: file, to: format!("{place}/out"), replace: false },
        Attempt::MoveIn => MasterRequest::Rename {
            from: format!("{place}/own"),
            to: format!("{directory}/new"),
            replace: false,
        },
        Attempt::MoveOver => MasterRequest::Rename { from: format!("{place}/own"), to: file, replace: true },
        Attempt::Delete => MasterRequest::Delete { path: file, recursive: false },
        Attempt::DeleteTree => MasterRequest::Delete { path: directory, recursive: true },
        Attempt::Chmod => MasterRequest::Chmod { path: file, mode: 0o777 },
        Attempt::GiveAway => change(Some("accomplice"), None),
        Attempt::OwnGroup => change(None, Some(GUESTS)),
        Attempt::OtherGroup => change(None, Some("keepers")),
        Attempt::Restore => MasterRequest::Restore { entry: None, path: file, to: None },
        Attempt::RestoreNumber => MasterRequest::Restore { entry: deleted, path: file, to: None },
    };
    master(stranger, request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(attempt: Attempt, directory: (&'static str, u16), file: (&'static str, u16)) -> bool {
        let guard = |(owner, mode): (&'static str, u16)| Guard { owner, group: "keepers", mode };
        Case { attempt, directory: guard(directory), file: guard(file) }.is_allowed()
    }

    #[test]
    fn the_rule_is_posixs() {
        let keeper = "keeper";
        assert!(case(Attempt::Read, (keeper, 0o711), (keeper, 0o644)));
        assert!(!case(Attempt::Read, (keeper, 0o700), (keeper, 0o644)), "no search");
        assert!(!case(Attempt::Read, (keeper, 0o711), (keeper, 0o640)), "no read");
        assert!(!case(Attempt::Read, (keeper, 0o711), (STRANGER, 0o044)), "the owner's class decides");
        assert!(case(Attempt::List, (keeper, 0o704), (keeper, 0)));
        assert!(case(Attempt::Delete, (keeper, 0o703), (keeper, 0)), "the file's own mode does not matter");
        assert!(!case(Attempt::Delete, (keeper, 0o1703), (keeper, 0o777)), "sticky");
        assert!(case(Attempt::Delete, (keeper, 0o1703), (STRANGER, 0)), "sticky, but their own");
        assert!(case(Attempt::DeleteTree, (keeper, 0o703), (keeper, 0o703)), "all in it can be deleted");
        assert!(!case(Attempt::DeleteTree, (STRANGER, 0o700), (keeper, 0o755)), "closed below");
        assert!(!case(Attempt::DeleteTree, (STRANGER, 0o700), (keeper, 0o1777)), "sticky below");
        assert!(!case(Attempt::MoveOver, (keeper, 0o1703), (keeper, 0o777)), "sticky keeps what is replaced");
        assert!(!case(Attempt::Create, (keeper, 0o702), (keeper, 0)), "writing needs search");
        assert!(case(Attempt::Chmod, (keeper, 0o701), (STRANGER, 0)));
        assert!(!case(Attempt::GiveAway, (STRANGER, 0o777), (STRANGER, 0o777)), "root only");
    }
}
