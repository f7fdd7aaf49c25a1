//! Planted defects: a constructor argument that is zero-sized in daemons and switches one bug on in the simulator.

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One deliberate bug, known by name to `cairn-sim mutants`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Defect { $($(#[$doc])* $name,)* }

        impl Defect {
            /// All of them.
            pub const ALL: &'static [Defect] = &[$(Defect::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Defect::$name => $text,)* }
            }

            /// The defect called `name`.
            pub fn by_name(name: &str) -> Option<Defect> {
                Self::ALL.iter().copied().find(|d| d.name() == name)
            }
        }
    };
}

defects! {
    /// READY is sent before the chunk file's fdatasync.
    AckBeforeDataSync = "ack-before-data-sync",
    /// READY is sent before the journal's fdatasync.
    AckBeforeJournalSync = "ack-before-journal-sync",
    /// The master answers before its log is durable.
    ReplyBeforeLogSync = "reply-before-log-sync",
    /// Reads skip the comparison with stored checksums.
    NoReadVerify = "no-read-verify",
    /// The master takes any replica that is reported for a good one, whatever its state,
    /// version and length (rule 16).
    NoReportVersionCheck = "no-report-version-check",
    /// The primary commits one replica short of the quorum.
    CommitBelowQuorum = "commit-below-quorum",
    /// A restarted replica of an open chunk accepts appends again (rule 4).
    ResumeAfterRestart = "resume-after-restart",
    /// The fence is answered before it is persisted (rule 5).
    FenceNotPersisted = "fence-not-persisted",
    /// Fencing an absent chunk leaves no tombstone (rule 3).
    NoTombstone = "no-tombstone",
    /// A replica that is damaged below its high-water mark votes as if it had nothing (rule 6).
    DamagedVotes = "damaged-votes",
    /// Sealing takes the shortest vote.
    SealShortest = "seal-shortest",
    /// Sealing goes ahead with a single holder (rule 7).
    SealSingleHolder = "seal-single-holder",
    /// Sealing goes ahead with one vote fewer than needed (rule 1).
    SealOneVoteShort = "seal-one-vote-short",
    /// Votes of other incarnations are counted (rule 2).
    AnyIncarnationVotes = "any-incarnation-votes",
    /// A copy counts before it was synced and read back.
    CopyUnverified = "copy-unverified",
    /// The excess or stale replica is dropped before the chunk is at its goal.
    DropBeforeReplaced = "drop-before-replaced",
    /// A new log segment or chunk file is not followed by a directory sync.
    SkipDirSync = "skip-dir-sync",
    /// A retry is acknowledged when recognised, not when committed (rule 10).
    AckDuplicateEarly = "ack-duplicate-early",
    /// Recovery truncates damage below the promised length (rule 6).
    TruncateDamage = "truncate-damage",
    /// A sidecar found after a power cut is believed although its chunk was never synced.
    TrustUnsyncedSeal = "trust-unsynced-seal",
    /// Restarted masters apply the last log record twice.
    ApplyTwice = "apply-twice",
    /// Rename leaves the old name in place.
    RenameKeepsSource = "rename-keeps-source",
    /// The reader is off by one byte at a chunk boundary.
    ReadOffByOne = "read-off-by-one",
    /// After a seal the writer goes on where it was acknowledged, not at the sealed length.
    ResumeAtAcked = "resume-at-acked",
    /// After a seal the writer goes on after what it sent, not at the sealed length.
    ResumeAtSent = "resume-at-sent",
    /// Replacing a file by `put -f` shows it before its data is complete.
    EarlyVisible = "early-visible",
    /// Dead servers' replicas count as good.
    CountDeadReplica = "count-dead-replica",
    /// Reclaimed chunks are never collected.
    LeakChunks = "leak-chunks",
    /// Completing an upload replaces what came meanwhile, though that was not asked for.
    CreateTwice = "create-twice",
    /// A repeated grant names its members in another order, and so another primary.
    SecondPrimary = "second-primary",
    /// The scrubber takes a last block that is not full for damaged.
    FalseAlarm = "false-alarm",
    /// A chunkserver never forgets which replicas changed.
    KeepChanges = "keep-changes",
    /// The client neither repeats a request nor gives it up when no answer comes.
    WaitForEver = "wait-for-ever",
    /// A server's number of replicas, as operators see it, never falls.
    StaleServerCount = "stale-server-count",
    /// A replica that grew while a block report was being made is judged by the report's list, and called damaged.
    GrowthUnnoticed = "growth-unnoticed",
    /// Servers that are not members are asked to vote, and count (rule 1).
    NonMembersVote = "non-members-vote",
    /// Votes that come after the decision decide again, and the log lets them (rule 8).
    SealAgain = "seal-again",
    /// A record that comes before its predecessor is taken where the last one ended (rule 11).
    GapAccepted = "gap-accepted",
    /// A drop is carried out whatever version and volume the replica has by now (rule 14).
    DropAnyVersion = "drop-any-version",
    /// An order to drop is sent without another look at what is left when the log has it (rule 14).
    DropUnchecked = "drop-unchecked",
    /// Replicas of open chunks are collected as if the log did not know them (rule 19).
    CollectOpenChunks = "collect-open-chunks",
    /// A vote leaves before the staged bytes are synced (rule 5).
    VoteBeforeSync = "vote-before-sync",
    /// A completed replica votes before the bytes that it took are synced (rules 5 and 7).
    CompletionNotSynced = "completion-not-synced",
    /// A rewritten journal forgets how far open replicas were READY (rule 6).
    RewriteForgetsReady = "rewrite-forgets-ready",
    /// A rewritten journal forgets which replicas are damaged.
    RewriteForgetsDamage = "rewrite-forgets-damage",
    /// A start forgets which replicas its journal says to be damaged.
    ReplayForgetsDamage = "replay-forgets-damage",
    /// A copy that took a damaged replica's place stays called damaged in the journal.
    CopyKeepsDamage = "copy-keeps-damage",
    /// A new session of a server takes over what was told in the one before.
    HearsayConfirmed = "hearsay-confirmed",
    /// A new session's reports take nothing back of what was told in the one before.
    SeenKept = "seen-kept",
    /// A failed sync of a journal goes unnoticed.
    JournalSyncErrorIgnored = "journal-sync-error-ignored",
    /// A completed member votes before the journal has its new length for good.
    CompletionJournalUnsynced = "completion-journal-unsynced",
    /// A note of damage is not synced.
    DamageNotSynced = "damage-not-synced",
    /// Copies are placed without a look at racks.
    CopyIgnoresRacks = "copy-ignores-racks",
    /// The newest of the requests that were forgotten is taken for new.
    DedupFloorOffByOne = "dedup-floor-off-by-one",
    /// Whoever may change a sticky directory may replace anybody's file there.
    ReplaceIgnoresSticky = "replace-ignores-sticky",
    /// Anybody may write, complete or abort anybody's upload.
    UploadByAnyone = "upload-by-anyone",
    /// Replicas of a volume that is out of use count as good.
    FailedVolumeCounts = "failed-volume-counts",
    /// The files of the lesser of two replicas are moved away without regard to what a power cut leaves of that.
    LoserUnordered = "loser-unordered",
    /// A directory that can't be listed holds nothing, says a block report.
    ListErrorIsAbsence = "list-error-is-absence",
    /// An idle operation log never gets the mark that tells rot in its last group from a torn write.
    LogNotMarked = "log-not-marked",
    /// What came before all remembered outcomes of a client is taken for new.
    DedupFloorForgotten = "dedup-floor-forgotten",
    /// Whoever knows its number in the trash may restore a file.
    RestoreByAnyone = "restore-by-anyone",
    /// The primary commits what it holds itself (commit needs W members).
    CommitOwnEnd = "commit-own-end",
    /// A member says READY for those behind it (commit needs W members).
    ReadyForOthers = "ready-for-others",
    /// The primary commits without a lease.
    LeaseIgnored = "lease-ignored",
    /// The last, partial block of a read is not compared with its checksum.
    LastBlockUnchecked = "last-block-unchecked",
    /// A sidecar takes its name before its bytes are synced.
    SidecarNotSynced = "sidecar-not-synced",
    /// The journal forgets a sealed replica before its sidecar's name is durable.
    SidecarNameNotSynced = "sidecar-name-not-synced",
    /// A torn tail of the master's log is cut at the group before the last whole one.
    CutDurableTail = "cut-durable-tail",
    /// Outcomes of requests are not remembered: a retry happens twice.
    OutcomesForgotten = "outcomes-forgotten",
    /// Outcomes of requests do not survive a restart of the master.
    OutcomesLostAtReplay = "outcomes-lost-at-replay",
    /// A refusal is not remembered: what comes again later may be carried out although its client was told that it was not.
    RefusalsForgotten = "refusals-forgotten",
    /// A replica that its server was told to drop counts again when a report shows it before it is gone.
    OrderedDropCounts = "ordered-drop-counts",
    /// All clients number their requests under one identity.
    ClientIdReused = "client-id-reused",
    /// A reader goes on in the new file when the one that it reads was replaced.
    MixedFiles = "mixed-files",
    /// A copy that failed once is never tried again.
    RepairGivesUp = "repair-gives-up",
    /// A server says that it made a copy when it has any replica of the chunk.
    CopyClaimed = "copy-claimed",
    /// Trash is freed before its undelete window is over.
    ReclaimEarly = "reclaim-early",
    /// The scrubber overlooks bad blocks.
    ScrubBlind = "scrub-blind",
    /// Block reports name replicas whose files are gone.
    ReportBlind = "report-blind",
    /// A scan judges a chunk that changed meanwhile, if its server was told to drop an older replica of it.
    ChangeUnnoticed = "change-unnoticed",
    /// A server that another one replaced under its address goes on vouching for its replicas until it counts as dead.
    ReplacedVouches = "replaced-vouches",
    /// Any heartbeat of the old process shows that it lives, and that its successor is a copy.
    LastWordsProve = "last-words-prove",
    /// A copy moves an unsealed replica away before the journal has forgotten it.
    ReplacedBeforeForgotten = "replaced-before-forgotten",
    /// A start moves bytes that nobody describes to the quarantine before the move of their sidecar is durable.
    OrphanMovedFirst = "orphan-moved-first",
    /// A journal that rotted is taken for one whose last write was torn.
    JournalRotTrusted = "journal-rot-trusted",
    /// A hole at a journal's end is taken for a torn write, though the machine has not lost power.
    HoleTakenForTear = "hole-taken-for-tear",
    /// A volume without room for a new journal is out of use.
    FullVolumeFails = "full-volume-fails",
    /// A journal that goes on for want of room is written from its beginning.
    KeptJournalOverwritten = "kept-journal-overwritten",
    /// A group of the operation log that found no space counts as written.
    FullLogAcks = "full-log-acks",
    /// A master that finds no space while it starts gives up.
    FullStartRefused = "full-start-refused",
    /// A new volume on a full disk, which can't be made the cluster's yet, is out of use for good.
    FullIdentityFails = "full-identity-fails",
    /// What was restored stays in the trash, too.
    RestoreLeavesEntry = "restore-leaves-entry",
    /// A replica is cut to the sealed length before it is durably sealed.
    SealTruncatesFirst = "seal-truncates-first",
    /// The journal forgets an unsealed replica after its file has gone.
    DropBeforeForgotten = "drop-before-forgotten",
    /// Each start of the master gives the same sessions.
    EpochReused = "epoch-reused",
    /// A chunk is granted with a quorum of two, whatever was asked for.
    QuorumLowered = "quorum-lowered",
    /// What comes into quarantine is purged at once.
    PurgeAtOnce = "purge-at-once",
    /// Directories above what is named need not grant search.
    SearchUnchecked = "search-unchecked",
    /// The sticky bit of a directory is ignored.
    StickyIgnored = "sticky-ignored",
    /// Replicas are placed without a look at racks.
    RacksIgnored = "racks-ignored",
    /// Of too many replicas the one goes whose rack has fewest.
    ExcessFromFewest = "excess-from-fewest",
    /// A copy takes a source that has too many reads under way for a broken one.
    BusyIsFailure = "busy-is-failure",
    /// What is sealed in the page cache counts as durable, and is never made so.
    LazySealNeverFlushed = "lazy-seal-never-flushed",
    /// The scrubber takes checksums from memory, and never looks at a sidecar.
    ScrubTrustsMemory = "scrub-trusts-memory",
    /// Block reports overlook that a sidecar is gone.
    ReportIgnoresSidecar = "report-ignores-sidecar",
    /// A damaged journal is held against replicas that were sealed since.
    SealedCondemned = "sealed-condemned",
    /// An upload that the master has given up counts as completed.
    GoneIsDone = "gone-is-done",
    /// A request whose connection is lost is asked again under another number.
    RetryRenumbered = "retry-renumbered",
    /// An unsealed replica that lost against another one is forgotten by the journal only when its file is gone.
    LoserForgottenLate = "loser-forgotten-late",
    /// A sidecar that the disk would not read when the process started counts as none: the bytes are cut to what the journal
    /// promised.
    UnreadableIsUnsealed = "unreadable-is-unsealed",
    /// A sidecar in the quarantine is purged although its bytes are still to follow it, and the journal still promises them.
    PurgedWhileMoved = "purged-while-moved",
    /// A start cuts a file to what was sealed before the name of the sidecar that says so is durable.
    CutBeforeNamed = "cut-before-named",
    /// Of two replicas that a start finds, one whose sidecar the disk would not read loses to any other.
    UnknownLoses = "unknown-loses",
    /// Of two replicas that a start finds, one whose sidecar is broken counts as one whose sidecar the disk would not read.
    BrokenIsUnread = "broken-is-unread",
    /// The sidecar of an empty chunk gets its name before the chunk's file is known to have one.
    EmptyNameNotSynced = "empty-name-not-synced",
    /// What is due in the quarantine while its volume is being recovered stays there.
    PurgeWhileStarting = "purge-while-starting",
    /// What a start finds in the quarantine stays there.
    QuarantineForgotten = "quarantine-forgotten",
    /// What a sync without space did not save waits for the next one.
    StagedKeptWhenFull = "staged-kept-when-full",
    /// Bytes that only a damaged journal could have told of are purged with the rest of the quarantine.
    OrphansPurged = "orphans-purged",
    /// Such bytes are put aside only when a new journal has taken the damaged one's place.
    OrphansLeftBehind = "orphans-left-behind",
    /// A lease is counted from the arrival of the answer that gives it.
    LeaseFromAnswer = "lease-from-answer",
    /// A chunk whose sync failed is synced again a moment later.
    FlushRetried = "flush-retried",
    /// Reads that were answered stay in the client's list of those under way.
    ReadsKept = "reads-kept",
    /// A request that ran out of time ends with the last refusal, as if that were its answer.
    RefusalPassedOn = "refusal-passed-on",
    /// A vote that is waiting for others counts although its server came back as another incarnation.
    VoteOutlivesIncarnation = "vote-outlives-incarnation",
    /// What an earlier process left in the page cache is made durable by a sync alone.
    InheritedTrusted = "inherited-trusted",
    /// Of two replicas the lesser one goes although a power cut may take the other.
    LoserGoesEarly = "loser-goes-early",
    /// A group of the log says that no more was durable before it than before the first group after a start.
    LogEndStale = "log-end-stale",
    /// What a replica promised before its seal is over only when its bytes are moved away too.
    HalfDropPromises = "half-drop-promises",
    /// A volume goes on under its name when its journal is lost.
    VolumeKeepsId = "volume-keeps-id",
    /// A tree in the trash can be restored when a part of it was freed.
    HalfRestored = "half-restored",
}

/// The defects switched on in one machine. Zero-sized without the feature `defects`.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Defects {
    #[cfg(feature = "defects")]
    planted: Option<Defect>,
}

impl Defects {
    /// Whether this is the simulator's build, in which defects can be planted and [limits](crate::limits) are small.
    pub const CAN_BE_PLANTED: bool = cfg!(feature = "defects");

    /// None: the correct machine.
    pub const fn none() -> Defects {
        Defects {
            #[cfg(feature = "defects")]
            planted: None,
        }
    }

    /// Exactly one.
    #[cfg(feature = "defects")]
    pub const fn one(defect: Defect) -> Defects {
        Defects { planted: Some(defect) }
    }

    /// Whether `defect` is planted; constantly false without the feature.
    #[inline]
    pub fn has(self, defect: Defect) -> bool {
        #[cfg(feature = "defects")]
        {
            self.planted == Some(defect)
        }
        #[cfg(not(feature = "defects"))]
        {
            let _ = defect;
            false
        }
    }
}
