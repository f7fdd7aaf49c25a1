//! What people see, kept as text: the trace of a tiny calm run, and the sentences of errors.

use cairn_core::defect::Defects;
use cairn_core::error::{ChunkError, ClientError, MasterError};
use cairn_core::id::{ChunkId, UploadId};
use runtime_sim::TraceMode;
use scenarios::plan::Plan;
use scenarios::run::run;

/// Times, numbers and disk operations are left out: they change with every change of a machine, conversations only with
/// its meaning.
#[test]
fn a_trace_tells_what_a_client_and_its_cluster_say() {
    let report = run(&Plan::tiny(1), Defects::none(), TraceMode::Full);
    assert_eq!(report.violations, []);
    let volatile =
        |word: &&str| !["conn-", "request=", "writer-", "crc=", "read="].iter().any(|v| word.starts_with(v));
    let said: Vec<String> = report
        .trace
        .lines()
        .filter(|line| line.contains("client0") && line.contains("<- ") && !line.contains("<- user"))
        .filter(|line| !line.contains("Cluster") && !line.contains("wake") && !line.contains("KeepUpload"))
        .map(|line| line.split_whitespace().skip(1).filter(volatile).collect::<Vec<_>>().join(" "))
        .skip_while(|line| !line.contains("Mkdir"))
        .take_while(|line| !line.contains("lost"))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn errors_say_what_to_do() {
    let errors = [
        ClientError::Master(MasterError::NotEnoughServers { needed: 2, live: 1 }).to_string(),
        ClientError::Master(MasterError::QuorumLost { chunk: ChunkId(7), needed: 2, answered: 1 })
            .to_string(),
        ClientError::Master(MasterError::UploadGone(UploadId(3))).to_string(),
        ClientError::NoReplica(ChunkId(7)).to_string(),
        ChunkError::DataCorrupt { chunk: ChunkId(7), offset: 65_536 }.to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    not enough chunkservers: 2 needed, 1 can take the chunk; start more or free space, then retry
    chunk-7 can't be sealed safely: 2 of its replicas must answer, 1 did; bring its chunkservers back
    upload-3 is gone: it was completed, aborted or expired; start the upload again
    chunk-7 has no live replica; bring its chunkservers back (see `cairn fsck`)
    DataCorrupt: chunk-7 at offset 65536
    ");
}
